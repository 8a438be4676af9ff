"""Pages in a browser: the explorer of studies, runs and images, and the blinded reader study."""
