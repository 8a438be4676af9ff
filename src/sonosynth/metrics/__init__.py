"""The scorecard: one file per metric."""
