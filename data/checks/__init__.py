"""Tolerant checks of a user's files: they go on after a fault, and tell all kinds of faults with a count of each."""
