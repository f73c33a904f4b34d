"""The built-in street front, drawn by a rasteriser of our own."""
