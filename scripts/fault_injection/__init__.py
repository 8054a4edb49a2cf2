"""Fault injection for the rproxy binary; `scripts/faults` runs it."""
