"""Paired statistics: what the rows of a run say about the difference between two models."""

from harness.compare.summary import Described, primary_metrics, summarise

__all__ = ["Described", "primary_metrics", "summarise"]
