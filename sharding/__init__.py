"""Where tables live: a pure function of tables, cluster and batch size."""
