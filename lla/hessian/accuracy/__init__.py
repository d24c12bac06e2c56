"""Standard errors over probes and batches, and targets for them."""
