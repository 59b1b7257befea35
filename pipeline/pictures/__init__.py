"""Pictures of masks, clicks and predictions."""
