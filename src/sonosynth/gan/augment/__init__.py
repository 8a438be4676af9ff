"""Augmentation inside the discriminator."""
