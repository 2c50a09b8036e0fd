"""Task suites: files, validation, split, leakage, checks."""
