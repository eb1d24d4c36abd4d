"""Training: objective, optimiser, sharded step and loop."""
