"""Stage three: SOLOv2 trained on the selected masks."""
