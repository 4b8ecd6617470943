"""Pictures, drawn from ledgers only."""
