"""Settles whether a fine-tuned model really writes better HTML."""

__version__ = "0.1.0"
