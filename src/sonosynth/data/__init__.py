"""Sets of labelled images: where they come from, how they are prepared and divided."""
