"""Find what changed in a scene between two visits that lie in one scene frame."""
