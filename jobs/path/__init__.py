"""Generated camera paths, and which parts of a path the photos cover."""
