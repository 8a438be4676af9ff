"""Frozen feature networks: their registry, one file per network, and their weights."""
