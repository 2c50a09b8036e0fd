"""Completions: decoding, stopping, the store."""
