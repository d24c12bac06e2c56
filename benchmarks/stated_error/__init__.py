"""Seconds to a stated error: this library, and the cheapest fixed budget of others."""
