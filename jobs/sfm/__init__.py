"""Structure from motion: camera poses from photos, and their registration to an earlier visit."""
