"""Segment Anything behind one adapter: weights, exact and fast encoder, decoder, masks."""
