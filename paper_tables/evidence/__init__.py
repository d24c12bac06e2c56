"""From records to what they say: selection, intervals, predicates."""
