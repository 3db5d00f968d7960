"""Several sizings, recipes and seeds side by side: runs, their records, the frontier."""
