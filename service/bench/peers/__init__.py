"""What a user would train with instead, each in an environment of its own."""
