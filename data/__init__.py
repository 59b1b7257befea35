"""Ground floor: file formats, images, rendered scenes and evaluation. Knows no stage."""
