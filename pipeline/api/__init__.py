"""What `import sapnet_pipe` promises to Python programs, beside the command line; the names stand in its `__all__`."""
