"""Cells, records, sessions: how exhibits are computed, judged and published."""
