"""Runs spread over the machines of a Ray cluster; nothing outside this package imports Ray."""
