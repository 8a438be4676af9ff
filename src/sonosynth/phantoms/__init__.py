"""Simulated breast B-mode images."""
