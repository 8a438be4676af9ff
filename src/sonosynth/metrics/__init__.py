"""How good synthetic images are: one file a metric."""
