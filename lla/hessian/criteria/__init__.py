"""The criteria r_e, K_H1 and K_H05 of a model, from fixed numbers of probes or to a target."""
