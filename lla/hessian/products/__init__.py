"""How a Hessian-vector product is made: three routes, and the recording behind the fastest."""
