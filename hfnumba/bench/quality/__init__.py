"""Costs of training to stated qualities, beside other libraries: rounds, passes, operations, seconds."""
