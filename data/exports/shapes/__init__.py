"""From a mask to outlines, and from outlines back to a mask by the rules of those who read them."""
