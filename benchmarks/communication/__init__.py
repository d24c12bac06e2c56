"""What several processes send one another in a Hessian product, measured and on paper."""
