"""Networks, embeddings and how wide tables are. Knows nothing of ranks, sockets or jobs."""
