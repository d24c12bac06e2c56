"""Options and fixtures of the suites: see `paper_tables.plugin`."""

from paper_tables.plugin import *  # noqa: F403  pytest finds its hooks and fixtures by name
