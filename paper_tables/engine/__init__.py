"""The engine: what exhibits, cells and records are, how they are computed, judged and published."""
