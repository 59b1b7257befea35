"""Point annotations in every form that is read, and as one table."""
