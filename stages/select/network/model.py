"""The selector: one forward pass from photographs and bags to scores and chosen boxes.

N bags, M masks per bag (padded), G positives per bag (padded), C classes, R negatives. Boxes in network pixels.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sapnet_pipe.stages.select.accuracy import ClassAccuracy, ObjectAccuracy
from sapnet_pipe.stages.select.batches.select_batch import SelectBatch
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.select.method.bms import Mined, mine_boxes
from sapnet_pipe.stages.select.method.completeness import completeness_score, joint_factor
from sapnet_pipe.stages.select.method.pdg import distance_score, neighbour_distance
from sapnet_pipe.stages.select.method.pnpg import NUM_SCALED, propose_negatives, scaled_boxes
from sapnet_pipe.stages.select.method.psm_prm import best_mask, of_class, prm_scores, psm_scores
from sapnet_pipe.stages.select.network.roi_features import RoiFeatures
from sapnet_pipe.stages.select.network.roi_head import RoiHead
from sapnet_pipe.stages.training.backbone import ResNetFpn


class PrmOutput(NamedTuple):
    """What PRM says of the positives.

    Attributes:
        scores: (N, G, C). valid: (N, G) bool; the first M of the G are the bag.
        own: (N, G), the scores of the bag's class.
        box: (N, 4), its selection after mining: box_prm.
        rule: (N,) int64, the mining rule that moved it.
        negative_logits: (R, C) class logits of the negatives; R is 0 outside training.
    """

    scores: Tensor
    valid: Tensor
    own: Tensor
    box: Tensor
    rule: Tensor
    negative_logits: Tensor


class SelectorOutput(NamedTuple):
    """What the selector says of a batch.

    Attributes:
        scores: (N, M, C + 1) of PSM, the background last.
        own: (N, M), the scores of the bag's class.
        s_dis: (N, M), PDG's factor in them, or None where it is switched off.
        selected: (N,) int64, the best mask of PSM.
        box: (N, 4), its box after mining. rule: (N,) int64, the mining rule that moved it.
        completeness: (N, M) logits of how complete the masks are, or None where that is switched off.
        prm: PRM's part, or None where it is switched off.
    """

    scores: Tensor
    own: Tensor
    s_dis: Tensor | None
    selected: Tensor
    box: Tensor
    rule: Tensor
    completeness: Tensor | None
    prm: PrmOutput | None


class MilHead(nn.Module):
    """One module's pair of linear layers: class and instance logits of a box; `prior` is the first sigmoid score."""

    def __init__(self, channels: int, num_outputs: int, prior: float = 0.5) -> None:
        super().__init__()
        self.cls = nn.Linear(channels, num_outputs)
        self.ins = nn.Linear(channels, num_outputs)
        for layer in (self.cls, self.ins):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.cls.bias, math.log(prior / (1 - prior)))

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """(..., channels) to twice (..., num_outputs), float32 in every precision."""
        return self.cls(embedding).float(), self.ins(embedding).float()


class Selector(nn.Module):
    """Backbone, RoI head, PSM and PRM; settings from `config`, C foreground classes.

    Args:
        backbone: Gives a pyramid, or, with a `roi_head` of its own, features of another kind.
    """

    views = RoiFeatures

    def __init__(
        self, backbone: nn.Module, num_classes: int, config: SelectConfig, roi_head: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.roi_head = roi_head or _pyramid_head(backbone, config)
        self.psm = MilHead(config.head.channels, num_classes + 1)
        self.prm = MilHead(config.head.channels, num_classes, config.prm.prior) if config.prm.enabled else None
        self.completeness = nn.Linear(config.head.channels, 1) if config.completeness.enabled else None
        self.accuracy = ClassAccuracy(num_classes)
        rivals = config.prm.enabled and config.negatives.enabled
        self.object_accuracy = ObjectAccuracy() if rivals else None

    def forward(self, batch: SelectBatch, *, mirror: bool = False) -> SelectorOutput:
        """Score and select; in training also draw and score negatives (torch's global random state).

        Args:
            mirror: Average the scores with those of the mirrored images.
        """
        features = self.views(self.backbone, self.roi_head, batch.images, mirror=mirror)
        bags = features.of_bags(batch.boxes, batch.image_index, batch.filled)  # views of (N, M, channels)
        s_dis = self._guidance(batch)
        factors = [joint_factor(s_dis, self._complete(bag, batch.valid)) for bag in bags]
        logits = zip(map(self.psm, bags), factors, strict=True)
        scores = features.mean([psm_scores(cls, ins, batch.valid, factor) for (cls, ins), factor in logits])
        own = of_class(scores, batch.class_index)
        selected = best_mask(own, batch.valid)
        with torch.no_grad():
            selected_box = _take(batch.boxes, selected)
            mined = self._mine(selected_box, batch.boxes, own, batch.valid)
            if self.training:
                self.accuracy.update(scores.sum(dim=1).argmax(dim=1), batch.class_index)
        prm = None
        if self.prm is not None:
            prm = self._refine(self.prm, features, bags, batch, selected_box, mined.box)
        completeness = None if self.completeness is None else self.completeness(bags[0]).squeeze(-1).float()
        return SelectorOutput(scores, own, s_dis, selected, mined.box, mined.rule, completeness, prm)

    def _refine(
        self,
        prm: MilHead,
        features: RoiFeatures,
        bags: list[Tensor],
        batch: SelectBatch,
        selected_box: Tensor,
        mined: Tensor,
    ) -> PrmOutput:
        boxes, valid = self._positives(batch, mined)
        added = boxes.shape[1] - batch.boxes.shape[1]
        if added:
            scaled = features.of_bags(boxes[:, -added:], batch.image_index)
            bags = [torch.cat(pair, dim=1) for pair in zip(bags, scaled, strict=True)]
        logits = zip(map(prm, bags), [self._complete(bag, valid) for bag in bags], strict=True)
        scores = features.mean([prm_scores(cls, ins, valid, factor) for (cls, ins), factor in logits])
        own = of_class(scores, batch.class_index)
        with torch.no_grad():
            masks = batch.boxes.shape[1]
            refined = self._mine(_take(boxes, best_mask(own, valid)), batch.boxes, own[:, :masks], batch.valid)
        negatives = mined.new_zeros(0, prm.cls.out_features)
        if self.training and self.config.negatives.enabled:
            embedding, image_index = self._negatives(features, batch, boxes, valid, selected_box)
            negatives = prm.cls(embedding).float()
            self._compare(batch, own.detach().sum(dim=1), negatives.detach().sigmoid(), image_index)
        return PrmOutput(scores, valid, own, refined.box, refined.rule, negatives)

    def _negatives(
        self, features: RoiFeatures, batch: SelectBatch, boxes: Tensor, valid: Tensor, selected_box: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Embeddings (R, channels) of negatives, and their images (R,)."""
        sampled, image_index, keep = propose_negatives(batch, boxes, valid, selected_box, self.config.negatives)
        # The one place where the host waits for values: features of what was dropped would cost more.
        sampled, image_index = sampled[keep], image_index[keep]
        return features.of_boxes(sampled, image_index)[0], image_index

    def _complete(self, embedding: Tensor, valid: Tensor) -> Tensor | None:
        """S_com of bags (N, M, channels), or None where it is switched off."""
        if self.completeness is None:
            return None
        with torch.no_grad():
            logits = self.completeness(embedding).squeeze(-1).float()
        return completeness_score(logits, valid, exponent=self.config.completeness.exponent)

    def _compare(self, batch: SelectBatch, scores: Tensor, negatives: Tensor, negative_image: Tensor) -> None:
        if self.object_accuracy is not None:
            self.object_accuracy.update(scores, batch.class_index, batch.image_index, negatives, negative_image)

    def _guidance(self, batch: SelectBatch) -> Tensor | None:
        pdg = self.config.pdg
        if not pdg.enabled:
            return None
        neighbours = (batch.neighbours_xy, batch.neighbours_valid)
        return distance_score(batch.point_xy, batch.boxes, *neighbours, power=pdg.power, exponent=pdg.exponent)

    def _mine(self, selected: Tensor, boxes: Tensor, scores: Tensor, valid: Tensor) -> Mined:
        bms = self.config.bms
        if not bms.enabled:
            return Mined(selected, torch.zeros(len(selected), dtype=torch.long, device=selected.device))
        return mine_boxes(
            selected,
            boxes,
            scores,
            valid,
            top_k=bms.top_k,
            t_min1=bms.t_min1,
            t_min2=bms.t_min2,
            tolerance=bms.tolerance,
        )

    def _positives(self, batch: SelectBatch, mined: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (N, G, 4) and validity (N, G): the bag, then the boxes scaled about the mined one."""
        if not self.config.positives.enabled:
            return batch.boxes, batch.valid
        neighbours = (batch.neighbours_xy, batch.neighbours_valid)
        power = self.config.pdg.power
        distance, inside = neighbour_distance(batch.point_xy, mined[:, None], *neighbours, power=power)
        size = batch.image_size[batch.image_index]
        scaled = scaled_boxes(mined, distance[:, 0], inside[:, 0], size)
        valid = torch.cat([batch.valid, batch.valid.new_ones(len(mined), NUM_SCALED)], dim=1)
        return torch.cat([batch.boxes, scaled], dim=1), valid


def _pyramid_head(backbone: nn.Module, config: SelectConfig) -> RoiHead:
    if not isinstance(backbone, ResNetFpn):
        raise TypeError("features that are no pyramid need a head of their own")
    head = config.head
    return RoiHead(
        backbone.out_channels,
        head.channels,
        roi_size=head.roi_size,
        sampling_ratio=head.sampling_ratio,
        canonical_size=head.canonical_size,
    )


def _take(boxes: Tensor, index: Tensor) -> Tensor:
    """One box per bag: (N, M, 4) and (N,) to (N, 4)."""
    return boxes.gather(1, index[:, None, None].expand(-1, 1, 4)).squeeze(1)
