"""What the scores of classifiers can carry: intervals, paired tests, learning curves, and what a design could see."""
