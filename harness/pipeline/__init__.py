"""A run, step by step: the one package that knows the whole way."""
