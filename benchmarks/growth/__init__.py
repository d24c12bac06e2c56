"""How the cost of a spectrum grows, measured and predicted: exponents along each of its axes."""
