"""The training loop of all families."""
