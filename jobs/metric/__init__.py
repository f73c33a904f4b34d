"""Scale, up, place and north of a scene, from what people measured."""
