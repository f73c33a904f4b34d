"""Gaussians, points and surfaces that leave the project, and their files."""
