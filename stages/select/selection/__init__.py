"""The choice of one mask per bag: by a trained selector or a baseline; what is written of it."""
