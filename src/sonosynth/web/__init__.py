"""Pages in a browser: the blinded reader study, and the rules of safety under every page."""
