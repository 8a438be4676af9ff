"""The whole study: its design, its cells, its store, its run."""
