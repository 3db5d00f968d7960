"""One file a verb: parse the arguments, call the function, show the result."""
