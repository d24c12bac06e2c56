"""An exhibit."""
