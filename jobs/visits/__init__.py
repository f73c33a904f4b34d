"""Find what changed in a scene between two visits in one scene frame."""
