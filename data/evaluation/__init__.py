"""How good masks are, measured against truth."""
