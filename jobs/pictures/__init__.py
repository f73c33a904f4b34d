"""The photos and videos of a capture, decoded. Importing a module here costs nothing: heavy packages load on use."""
