"""How well the bags are classified, per class, over the last steps."""

import torch
from torch import Tensor, nn

DECAY = 0.98


class ClassAccuracy(nn.Module):
    """Running accuracy per class, forgetting at 2 % a step.

    It is part of the model's state, so that the seed guard of a resumed run decides as that of an undisturbed one.
    """

    correct: Tensor
    seen: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("correct", torch.zeros(num_classes))
        self.register_buffer("seen", torch.zeros(num_classes))

    def update(self, predicted: Tensor, class_index: Tensor) -> None:
        """Count the bags of one step: predicted (N,) in 0..C (C the background), class_index (N,) in 0..C-1."""
        hits = (predicted == class_index).to(self.seen.dtype)
        self.correct.mul_(DECAY).index_add_(0, class_index, hits)
        self.seen.mul_(DECAY).index_add_(0, class_index, torch.ones_like(hits))

    def balanced(self) -> float:
        """Mean over the classes seen lately of their accuracy; 0 if none was. A constant answer gives 1 / classes."""
        lately = self.seen > 0.1
        if not bool(lately.any()):
            return 0.0
        return float((self.correct[lately] / self.seen[lately]).mean())
