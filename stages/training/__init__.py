"""What two or more stages share: backbone, devices, processes, checkpoints and the training loop."""
