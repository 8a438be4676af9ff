"""Fidelity and diversity: precision, recall, density, coverage, alpha-precision and its fellows."""
