"""Servers of OpenAI's protocol."""
