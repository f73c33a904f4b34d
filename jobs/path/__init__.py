"""Camera paths that are generated, and what of a path the photos saw."""
