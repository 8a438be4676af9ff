"""Readers: from a folder, a manifest or a file to labelled greyscale pictures."""
