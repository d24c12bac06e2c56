"""The inputs of measurements: networks with their weights, and images."""
