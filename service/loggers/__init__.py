"""Other places that a run's figures go to: they follow ``metrics.jsonl``, which stays the truth."""
