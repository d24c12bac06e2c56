"""This library and others at equal work."""
