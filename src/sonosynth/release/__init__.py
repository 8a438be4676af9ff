"""What leaves the house: pretrained generators with a card and an audit."""
