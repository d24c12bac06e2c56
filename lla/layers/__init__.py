"""What is asked of one layer of a network: flatness."""
