"""The page of a scorecard."""
