"""Pages and examples: what they show is executed."""
