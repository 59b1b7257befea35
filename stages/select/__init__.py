"""Stage two: multiple-instance learning selects the mask that is the object."""
