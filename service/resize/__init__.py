"""Going on with other tables: a checkpoint of one sizing plan, rewritten for another."""
