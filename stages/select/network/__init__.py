"""The network of stage two: features of boxes (`roi_features`, `roi_head`), and PSM and PRM on them (`model`)."""
