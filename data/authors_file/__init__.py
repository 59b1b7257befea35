"""The SAPNet authors' file of SAM masks, in and out."""
