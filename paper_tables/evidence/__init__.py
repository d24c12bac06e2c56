"""Records as evidence: selection, intervals, rules of claims, entries of tables."""
