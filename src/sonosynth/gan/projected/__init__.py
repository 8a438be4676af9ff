"""Projected GAN (Sauer et al. 2021)."""
