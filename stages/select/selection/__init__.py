"""One mask per bag: chosen by the trained selector or a baseline, measured against the truth, and written."""
