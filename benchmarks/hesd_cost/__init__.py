"""Section 3.4 of arXiv:2412.10146: what criteria cost, and how accurate they are."""
