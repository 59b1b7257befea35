"""COCO JSON: the document, its instances, segmentations and run-length encoded masks."""
