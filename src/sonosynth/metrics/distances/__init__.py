"""Distances between two sets of images: Fréchet (FID) and kernel distances (KID, CMMD)."""
