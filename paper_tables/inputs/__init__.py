"""What is measured: networks with their weights, and the images that they see."""
