"""H.264 videos, whole and in chunks."""
