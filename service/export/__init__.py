"""From a run to an artifact: what is served, without what training needs."""
