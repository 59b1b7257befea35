"""Middle floor: the three stages. None imports another; what they share are modules here."""
