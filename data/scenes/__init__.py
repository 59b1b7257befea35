"""Rendered scenes with exact truth: objects made of shared parts, touching neighbours, clutter, occlusion."""

from sapnet_pipe.data.scenes.catalogue import CLASS_NAMES
from sapnet_pipe.data.scenes.scene import Scene, render_scene

__all__ = ["CLASS_NAMES", "Scene", "render_scene"]
