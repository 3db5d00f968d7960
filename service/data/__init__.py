"""From raw logs to Parquet parts, and from Parquet parts to batches."""
