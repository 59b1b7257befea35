"""From one click per object to an instance-segmentation model: points, bags of SAM masks, pseudo labels, SOLOv2."""
