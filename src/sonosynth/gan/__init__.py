"""Generators: recipes, networks, training, sampling; one folder per family."""
