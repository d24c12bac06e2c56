"""Where the time of a Hessian product goes: each kind of operation against the machine's limit."""
