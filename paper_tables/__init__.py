"""Suites that regenerate the paper's tables, cell by cell, and judge its claims.

Run from a checkout: `pytest paper_tables`. The parts: `values` (what the paper prints),
`profiles` (how much is computed), `cells` (a cell and its verdict), `store` (finished and
published records), `suite` and `plugin` (running cells under pytest), one module of cells and one
test file a table or figure group, and `render`, `figures` and `claims`, which read records alone.
"""
