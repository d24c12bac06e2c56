"""From a network and its images to the records of a cell."""
