"""Figures of the paper, drawn from ledgers only."""
