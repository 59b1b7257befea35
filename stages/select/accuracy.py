"""Running figures that show whether a selector learns: of the classes, and of objects against background.

They are part of the model's state, so that the seed guard of a resumed run decides as that of an undisturbed one, and
count the bags of all processes, so that all of them decide alike. They forget at 2 % a step.
"""

import torch
from torch import Tensor, nn

from sapnet_pipe.stages.training.distributed import all_reduce_sum

DECAY = 0.98


class ClassAccuracy(nn.Module):
    """How well the bags are classified, per class."""

    correct: Tensor
    seen: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("correct", torch.zeros(num_classes))
        self.register_buffer("seen", torch.zeros(num_classes))

    def update(self, predicted: Tensor, class_index: Tensor) -> None:
        """Count the bags of one step: predicted (N,) in 0..C (C the background), class_index (N,) in 0..C-1."""
        hits = (predicted == class_index).to(self.seen.dtype)
        counts = self.seen.new_zeros(2, len(self.seen))
        counts = all_reduce_sum(counts.index_add(1, class_index, torch.stack([hits, torch.ones_like(hits)])))
        self.correct.mul_(DECAY).add_(counts[0])
        self.seen.mul_(DECAY).add_(counts[1])

    def balanced(self) -> float:
        """Mean over the classes seen lately of their accuracy; 0 if none was. A constant answer gives 1 / classes."""
        lately = self.seen > 0.1
        if not bool(lately.any()):
            return 0.0
        return float((self.correct[lately] / self.seen[lately]).mean())


class ObjectAccuracy(nn.Module):
    """How often a bag scores above a negative of its image: 0.5 by chance, 1 where objects stand out.

    Where all bags are of one class their classification shows nothing: a constant answer is right.
    """

    won: Tensor
    pairs: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("won", torch.zeros(()))
        self.register_buffer("pairs", torch.zeros(()))

    def update(
        self, scores: Tensor, class_index: Tensor, image_index: Tensor, negatives: Tensor, negative_image: Tensor
    ) -> None:
        """Compare the bags of one step with the negatives of their images; equal scores count half.

        Args:
            scores, class_index, image_index: (N,), of the bags. negatives: (R, C) scores of the negatives, of images
                negative_image (R,).
        """
        rivals = negatives[:, class_index].T  # (N, R)
        here = image_index[:, None] == negative_image
        better = (scores[:, None] > rivals).float() + 0.5 * (scores[:, None] == rivals)
        counts = all_reduce_sum(torch.stack([(better * here).sum(), here.sum().float()]))
        self.won.mul_(DECAY).add_(counts[0])
        self.pairs.mul_(DECAY).add_(counts[1])

    def value(self) -> float:
        """The share of comparisons won lately; 0.5 if there were none."""
        return float(self.won / self.pairs) if bool(self.pairs > 0) else 0.5
