"""The plans of the stages, one module each: what the job needs, and what it produces."""
