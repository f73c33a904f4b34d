"""The exports of a model: Gaussians, points and surfaces, and their files."""
