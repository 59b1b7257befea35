"""Stage one: Segment Anything gives every point a bag of candidate masks."""
