"""The built-in street front of `jobs.facade`, and the rasteriser that draws it."""
