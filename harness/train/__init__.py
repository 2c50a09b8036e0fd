"""Fine-tuning: settings, rows as tokens, and the trainer."""
