"""Disk: atomic writes, locks, JSON Lines, YAML, caches, and the rule for files that are not ours."""
