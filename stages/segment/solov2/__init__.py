"""SOLOv2 (arXiv 1912.04488, 2003.10152): heads, targets, losses, inference."""
