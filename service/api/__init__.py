"""The training service: jobs, runs and what they make, over HTTP; ``mixdim serve`` starts it."""
