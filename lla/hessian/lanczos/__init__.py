"""The Lanczos process, and what is read from its tridiagonal matrix."""
