"""A small selector with unlike logits, and a batch of three bags for it."""

from typing import Any

import numpy as np
import torch

from sapnet_pipe.data.bag_store.masks import MaskFigures
from sapnet_pipe.data.bag_store.table import BagTable
from sapnet_pipe.stages.select.batches.batch import SelectBatch, Whole
from sapnet_pipe.stages.select.method.pdg import same_class_neighbours
from sapnet_pipe.stages.select.network.model import Selector
from sapnet_pipe.stages.select.network.roi_features import PyramidProvider
from sapnet_pipe.stages.training.backbone import build_backbone
from tests.stages.select.toy_store import toy_config


def selector(**changes: Any) -> Selector:
    config = toy_config(**changes)
    torch.manual_seed(0)
    backbone, _ = build_backbone(config.backbone)
    model = Selector(PyramidProvider(backbone, config.head), 3, config)
    for head in (model.psm, model.prm):  # logits that differ, so that choices are not ties
        if head is not None:
            torch.nn.init.normal_(head.cls.weight, std=2.0)
            torch.nn.init.normal_(head.ins.weight, std=2.0)
    return model.eval()


def batch(masks: int = 4) -> SelectBatch:
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(3, masks, 2, generator=generator) * 30
    boxes = torch.cat([corner, corner + 5 + torch.rand(3, masks, 2, generator=generator) * 25], dim=-1)
    points = boxes[:, 0, :2] + 2
    class_index = torch.tensor([0, 0, 2])
    xy, known = same_class_neighbours(points[:2], class_index[:2])
    return SelectBatch(
        inputs=torch.randn(2, 3, 64, 64, generator=generator),
        image_size=torch.full((2, 2), 64.0),
        image_index=torch.tensor([0, 0, 1]),
        slot=torch.tensor([0, 1, 0]),
        most_bags=2,
        class_index=class_index,
        point_xy=points,
        boxes=boxes,
        valid=torch.ones(3, masks, dtype=torch.bool),
        filled=torch.arange(3 * masks),
        neighbours_xy=torch.cat([xy, torch.zeros(1, 1, 2)]),
        neighbours_valid=torch.cat([known, torch.zeros(1, 1, dtype=torch.bool)]),
        rows=torch.arange(3),
        whole=Whole(2, 3),
    )


def table_of(given: SelectBatch, sam_score: torch.Tensor | None = None) -> BagTable:
    """The bags of the batch as a table of images of 64 pixels; scores (N, M), drawn if there are none."""
    valid, count = given.valid, len(given.rows)
    score = torch.rand(valid.shape) if sam_score is None else sam_score
    total = int(valid.sum())
    return BagTable(
        image_id=given.image_index.numpy() + 1, file_name=np.array(["a.png"] * count, object),
        height=np.full(count, 64, np.int32), width=np.full(count, 64, np.int32),
        point_id=np.arange(count), category_id=given.class_index.numpy().astype(np.int32),
        point_xy=given.point_xy.numpy(), offsets=np.cumsum([0, *valid.sum(dim=1).tolist()]),
        masks=MaskFigures(
            box_xyxy=given.boxes[valid].numpy(), score=score[valid].numpy(), stability=np.ones(total, np.float32),
            area=np.ones(total, np.int32), source=np.ones(total, np.int8),
        ),
    )  # fmt: skip
