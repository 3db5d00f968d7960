"""What searches compute: one paper, one file; who trains and who reads files is elsewhere."""
