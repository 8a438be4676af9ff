"""The study: its configuration, cells, store and run."""
