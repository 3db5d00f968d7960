"""What can be asked of the service, one subject a file."""
