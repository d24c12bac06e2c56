"""What a Hessian product costs, and why: FLOPs, time and memory, predicted and measured."""
