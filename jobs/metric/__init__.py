"""Metres: what people measured, and the scale, up, place and north of a scene that follow from it."""
