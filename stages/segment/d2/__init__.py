"""Detectron2 as the host of our SOLOv2.

The only package that imports Detectron2. Importing it registers nothing; `register` (in `registration`) does.
"""

import warnings

# Detectron2 and fvcore compile with torch.jit.script and read numpy masks in place, which new libraries wonder at.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"(detectron2|fvcore)\b")
