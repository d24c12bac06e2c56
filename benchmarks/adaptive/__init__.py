"""Criteria to a stated error: what a target saves, and whether the stated errors are honest."""
