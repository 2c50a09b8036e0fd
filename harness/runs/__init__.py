"""A run's folder: its files, their versions, the one who writes and the one who reads."""
