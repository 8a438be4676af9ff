"""Generators: networks, recipes, training, sampling."""
