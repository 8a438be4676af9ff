"""Losses that families share."""
