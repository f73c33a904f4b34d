"""The checks of `rebel-nerf doctor`, one room a subject."""
