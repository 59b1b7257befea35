"""Rendered scenes with exact truth: objects made of shared parts, touching neighbours, clutter, occlusion."""
