"""What stage two writes: pseudo labels and the explanation of every choice."""
