"""Whether synthetic images look like ultrasound: speckle, resolution, depth."""
