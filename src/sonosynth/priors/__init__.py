"""Generators that were trained on many public images, to start from: what a prior is, and those of this package."""
