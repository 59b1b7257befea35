"""The demo's tiny SAM: its architecture, its training on rendered scenes, its weights."""
