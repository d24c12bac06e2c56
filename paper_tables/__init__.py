"""Suites that regenerate published tables, cell by cell, and judge claims.

Run from a checkout: `pytest paper_tables`. Rooms, from the lowest to the highest: `paper` (what is
printed and claimed), `engine` (exhibits, cells, records, sessions, publishing), `evidence` (records
as evidence), `inputs` (networks and images), `measure` (from these to the values of records) and
`exhibits` (one folder a table, figure group or study). `plugin` runs them under pytest.
docs/architecture.md shows the whole.
"""
