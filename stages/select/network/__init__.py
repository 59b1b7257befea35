"""The selector as a network: RoI features of the proposals, heads, one forward pass."""
