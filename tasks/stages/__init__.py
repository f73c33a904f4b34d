"""One module a stage: each says what its job needs and makes."""
