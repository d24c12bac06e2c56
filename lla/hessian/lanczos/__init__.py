"""The Lanczos process, and what follows from its tridiagonal matrix."""
