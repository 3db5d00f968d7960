"""Whether this machine can do what is asked of it, looked up without torch being loaded."""
