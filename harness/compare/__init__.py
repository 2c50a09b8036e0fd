"""Paired statistics: what the rows of a run say about the difference between two models."""

from harness.compare.summary import Described, summarise

__all__ = ["Described", "summarise"]
