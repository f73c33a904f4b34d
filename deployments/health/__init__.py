"""The checks of `rebel-nerf doctor`, one module per subject."""
