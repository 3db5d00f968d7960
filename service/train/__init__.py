"""One training loop for every model, plan and number of ranks."""
