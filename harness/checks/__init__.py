"""What a task says its prompt asked for: the words of task checks and how they are read (docs/checks.md)."""
