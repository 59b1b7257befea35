"""The selector: one forward pass from the features of bags to scores and chosen boxes: PSM, PDG, BMS, PNPG, PRM.

N bags, M masks per bag (padded), G positives per bag (padded), C classes, R negatives. Boxes in network pixels.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sapnet_pipe.stages.select.batches.batch import SelectBatch
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.select.method.bms import Mined, mine_boxes
from sapnet_pipe.stages.select.method.completeness import completeness_score, joint_factor
from sapnet_pipe.stages.select.method.pdg import distance_score, neighbour_distance
from sapnet_pipe.stages.select.method.pnpg import NUM_SCALED, scaled_boxes
from sapnet_pipe.stages.select.method.psm_prm import best_mask, of_class, prm_scores, psm_scores
from sapnet_pipe.stages.select.network.roi_features import FeatureProvider, RoiFeatures, tta_mean
from sapnet_pipe.stages.select.seed_guard import ClassAccuracy, ObjectAccuracy


class PrmOutput(NamedTuple):
    """What PRM says of the positives.

    Attributes:
        scores: (N, G, C). valid: (N, G) bool; the first M of the G are the bag.
        class_scores: (N, G), those of the bag's class.
        box: (N, 4), its selection after mining: box_prm.
        bms_rule: (N,) int64, the rule of BMS that moved it: 1, 2, or 0 where it stayed.
        negative_logits: (R, C) class logits of the negatives; R is 0 outside training.
    """

    scores: Tensor
    valid: Tensor
    class_scores: Tensor
    box: Tensor
    bms_rule: Tensor
    negative_logits: Tensor


class SelectorOutput(NamedTuple):
    """What the selector says of a batch.

    Attributes:
        scores: (N, M, C + 1) of PSM, the background last.
        class_scores: (N, M), those of the bag's class.
        s_dis: (N, M), PDG's factor in them, or None where it is switched off.
        selected: (N,) int64, the best mask of PSM.
        box: (N, 4), its box after mining. bms_rule: (N,) int64, the rule of BMS that moved it, as in `PrmOutput`.
        completeness: (N, M) logits of how complete the masks are, or None where that is switched off.
        prm: PRM's part, or None where it is switched off.
    """

    scores: Tensor
    class_scores: Tensor
    s_dis: Tensor | None
    selected: Tensor
    box: Tensor
    bms_rule: Tensor
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
    """PSM and PRM on the features of a provider; settings from `config`, C foreground classes."""

    def __init__(self, provider: FeatureProvider, num_classes: int, config: SelectConfig) -> None:
        super().__init__()
        self.config = config
        self.provider = provider
        self.backbone, self.roi_head = provider.backbone, provider.roi_head
        self.psm = MilHead(config.head.channels, num_classes + 1)
        self.prm = MilHead(config.head.channels, num_classes, config.prm.prior) if config.prm.enabled else None
        self.completeness = nn.Linear(config.head.channels, 1) if config.completeness.enabled else None
        self.accuracy = ClassAccuracy(num_classes)
        has_negatives = config.prm.enabled and config.negatives.enabled
        self.object_accuracy = ObjectAccuracy() if has_negatives else None

    def forward(self, batch: SelectBatch, *, tta: bool = False) -> SelectorOutput:
        """Score and select; in training also draw and score negatives (torch's global random state).

        Args:
            tta: Average the scores with those of the mirrored images.
        """
        features = self.provider(batch, tta=tta)
        bags = features.of_bags()  # (N, M, channels), for each time the batch is seen
        s_dis = self._guidance(batch)
        factors = [joint_factor(s_dis, self._s_com(bag, batch.valid)) for bag in bags]
        logits = zip(map(self.psm, bags), factors, strict=True)
        scores = tta_mean([psm_scores(cls, ins, batch.valid, factor) for (cls, ins), factor in logits])
        class_scores = of_class(scores, batch.class_index)
        selected = best_mask(class_scores, batch.valid)
        with torch.no_grad():
            selected_box = _take(batch.boxes, selected)
            mined = self._mine("psm", selected_box, batch.boxes, class_scores, batch.valid)
            if self.training:
                self.accuracy.update(scores.sum(dim=1).argmax(dim=1), batch.class_index)
        prm = None
        if self.prm is not None:
            prm = self._refine(self.prm, features, bags, batch, selected_box, mined.box)
        completeness = None if self.completeness is None else self.completeness(bags[0]).squeeze(-1).float()
        return SelectorOutput(scores, class_scores, s_dis, selected, mined.box, mined.bms_rule, completeness, prm)

    def _refine(
        self,
        prm: MilHead,
        features: RoiFeatures,
        bags: list[Tensor],
        batch: SelectBatch,
        selected_box: Tensor,
        mined: Tensor,
    ) -> PrmOutput:
        """Select again, among the bag and the boxes scaled about the mined one, and score negatives."""
        boxes, valid = self._positives(batch, mined)
        masks = batch.boxes.shape[1]
        if boxes.shape[1] > masks:
            scaled = features.of_scaled(boxes[:, masks:])
            bags = [torch.cat(pair, dim=1) for pair in zip(bags, scaled, strict=True)]
        logits = zip(map(prm, bags), [self._s_com(bag, valid) for bag in bags], strict=True)
        scores = tta_mean([prm_scores(cls, ins, valid, factor) for (cls, ins), factor in logits])
        class_scores = of_class(scores, batch.class_index)
        with torch.no_grad():
            selected = _take(boxes, best_mask(class_scores, valid))
            refined = self._mine("prm", selected, batch.boxes, class_scores[:, :masks], batch.valid)
        negative_logits = mined.new_zeros(0, prm.cls.out_features)
        if self.training and self.config.negatives.enabled:
            embedding, image_index = features.of_negatives(boxes, valid, selected_box, self.config.negatives)
            negative_logits = prm.cls(embedding).float()
            if self.object_accuracy is not None:
                of_bags, of_negatives = class_scores.detach().sum(dim=1), negative_logits.detach().sigmoid()
                self.object_accuracy.update(of_bags, batch.class_index, batch.image_index, of_negatives, image_index)
        return PrmOutput(scores, valid, class_scores, refined.box, refined.bms_rule, negative_logits)

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

    def _guidance(self, batch: SelectBatch) -> Tensor | None:
        """S_dis (N, M) of PDG, or None where it is switched off."""
        pdg = self.config.pdg
        if not pdg.enabled:
            return None
        neighbours = (batch.neighbours_xy, batch.neighbours_valid)
        return distance_score(batch.point_xy, batch.boxes, *neighbours, power=pdg.power, exponent=pdg.exponent)

    def _s_com(self, embedding: Tensor, valid: Tensor) -> Tensor | None:
        """S_com of bags (N, M, channels), or None where it is switched off."""
        if self.completeness is None:
            return None
        with torch.no_grad():
            logits = self.completeness(embedding).squeeze(-1).float()
        return completeness_score(logits, valid, exponent=self.config.completeness.exponent)

    def _mine(self, after: str, selected: Tensor, boxes: Tensor, scores: Tensor, valid: Tensor) -> Mined:
        """BMS on the boxes (N, 4) that a module selected; they stay as they are where it is switched off."""
        bms = self.config.bms
        if not bms.enabled or bms.after not in ("both", after):
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


def _take(boxes: Tensor, index: Tensor) -> Tensor:
    """One box per bag: (N, M, 4) and (N,) to (N, 4)."""
    return boxes.gather(1, index[:, None, None].expand(-1, 1, 4)).squeeze(1)
