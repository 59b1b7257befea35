"""Makes the helper modules of this folder importable from the folder below, too."""
