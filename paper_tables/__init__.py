"""Suites that regenerate the paper's tables, cell by cell, and judge its claims.

Run from a checkout: `pytest paper_tables`. The parts: `values` (what the paper prints),
`profiles` (how much is computed), `cells` (a cell and its verdict), `store` (finished and
published records), `suite` and `plugin` (running cells under pytest), one module of cells and one
test file a table or figure group, and `render`, `figures` and `claims`, which read records alone.
Table 1: `networks` (the six of them, with weights and images), `table1` (its planes), `explosion`
(the paper's notation), `planes` (its records as planes), and `render_table1`,
`figures_landscape` and `claims_landscape`.
"""
