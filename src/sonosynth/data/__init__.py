"""The ground: images, where they come from, how they are divided."""
