"""A comparison of this library with others at equal work."""
