"""Weights, precision and prompts of a model."""
