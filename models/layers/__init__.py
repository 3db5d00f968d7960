"""Dense layers shared by the networks."""
