"""Hessian-vector products, and all that is computed from them."""
