"""Jobs: a verb of the command line, started somewhere, watched and ended by a launcher."""
