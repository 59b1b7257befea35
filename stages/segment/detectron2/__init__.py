"""Detectron2 as the host of our SOLOv2.

The only package that imports Detectron2. Importing it registers nothing; `register` (in `registration`) does.
"""

import warnings

# Detectron2 and fvcore use what newer releases of torch advise against, when they are imported and when they train.
warnings.filterwarnings(
    "ignore", message=r"`(torch\.jit\.script|torch\.cuda\.amp|broadcast_buffers)", category=FutureWarning
)
