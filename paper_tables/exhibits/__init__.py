"""One folder an exhibit."""
