"""Labels and predictions in the forms of other tools; what a form cannot hold is measured as it is written."""
