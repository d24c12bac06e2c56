"""Measurements: from a network and its images to the values of records."""
