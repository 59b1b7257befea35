"""From a bag store and photographs to the padded batches of the selector."""
