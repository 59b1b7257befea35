"""Detectron2's train loader over a stream of images that is a function of (seed, iteration), so that a run resumes.

A *place* is the number of an image in everything that a training sees: step i of B images takes the places i * B to
(i + 1) * B, of which each process takes its share.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, build_detection_train_loader, get_detection_dataset_dicts
from detectron2.utils import comm
from torch.utils.data import Dataset, Sampler

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.segment.batches import ImageOrder, draws_at
from sapnet_pipe.stages.segment.config import HeadConfig
from sapnet_pipe.stages.segment.detectron2.config import head_of
from sapnet_pipe.stages.segment.detectron2.instances import targets_of_entry
from sapnet_pipe.stages.segment.detectron2.mapper import MaskMapper, side_choices
from sapnet_pipe.stages.segment.solov2.heads import MASK_STRIDE
from sapnet_pipe.stages.training.cores import available_cores
from sapnet_pipe.stages.training.image_batch import STRIDE


class Stream(Dataset[Any]):
    """The image at every place, mapped; the order and draws are those of the builtin engine.

    Args:
        dicts: Dataset dicts.
        batch_size: Of all processes together.
    """

    def __init__(self, dicts: list[dict[str, Any]], mapper: MaskMapper, cfg: CfgNode) -> None:
        self._dicts, self._mapper = DatasetFromList(dicts, copy=False), mapper
        self._seed, self._batch_size = cfg.SEED, cfg.SOLVER.IMS_PER_BATCH
        self._sides = side_choices(cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING)
        self._flip = cfg.INPUT.RANDOM_FLIP != "none"
        self._image_at = ImageOrder(len(dicts), cfg.SEED)

    def __getitem__(self, place: int) -> dict[str, Any]:
        iteration, slot = divmod(place, self._batch_size)
        draws = draws_at(self._seed, iteration, self._batch_size, self._sides, flip=self._flip)
        entry = dict(self._dicts[self._image_at(place)], draw=draws[slot])
        try:
            with _numpy_seed(self._seed, place):
                return self._mapper(entry)
        except UserError as error:  # does not survive the way out of a worker process
            return {"failure": (error.file, error.field, str(error.value), error.problem, error.hint)}


class Places(Sampler[int]):
    """The places of this process, from iteration `start` to `end`."""

    def __init__(self, batch_size: int, start: int, end: int) -> None:
        self._batch_size, self._iterations = batch_size, range(start, end)

    def __iter__(self) -> Iterator[int]:
        share = self._batch_size // comm.get_world_size()
        for iteration in self._iterations:
            first = iteration * self._batch_size + comm.get_rank() * share
            yield from range(first, first + share)


class Collate:
    """Turns the instances of a batch into targets, where the loader's workers have time for it."""

    def __init__(self, head: HeadConfig, num_classes: int, lost: str) -> None:
        self._head, self._num_classes, self._lost = head, num_classes, lost

    def __call__(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Replace ``instances`` by ``targets`` (ImageTargets) and ``untrained`` ((annotation id, reason) pairs)."""
        if any("failure" in entry for entry in entries):
            return entries
        sides = torch.tensor([entry["image"].shape[-2:] for entry in entries]).amax(0)
        height, width = (-(-int(side) // STRIDE) * STRIDE // MASK_STRIDE for side in sides)
        collated = []
        for entry in entries:
            targets, untrained = targets_of_entry(
                entry, (height, width), self._head, self._num_classes, lost=self._lost
            )
            rest = {key: value for key, value in entry.items() if key != "instances"}
            collated.append({**rest, "targets": targets, "untrained": untrained})
        return collated


class CheckedLoader:
    """Raises what went wrong in a worker, and remembers which objects no cell predicted.

    Attributes:
        untrained: annotation id -> reason.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self.untrained: dict[int, str] = {}

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        for batch in self._loader:
            for entry in batch:
                if "failure" in entry:
                    raise UserError(*entry["failure"])
                self.untrained.update(entry["untrained"])
            yield batch


def train_loader(cfg: CfgNode, start: int) -> CheckedLoader:
    """Batches from iteration `start` to ``SOLVER.MAX_ITER`` for this process."""
    dicts = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)
    lost = "outside the crop or gone in the resize" if cfg.INPUT.CROP.ENABLED else "gone in the resize"
    loader = build_detection_train_loader(
        Stream(dicts, MaskMapper.from_cfg(cfg, is_train=True), cfg),
        mapper=None,
        sampler=Places(cfg.SOLVER.IMS_PER_BATCH, start, cfg.SOLVER.MAX_ITER),
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=False,
        num_workers=min(cfg.DATALOADER.NUM_WORKERS, available_cores()),
        collate_fn=Collate(head_of(cfg), cfg.MODEL.SOLOV2.NUM_CLASSES, lost),
    )
    return CheckedLoader(loader)


@contextmanager
def _numpy_seed(seed: int, place: int) -> Iterator[None]:
    """Detectron2's augmentations draw from NumPy's global generator."""
    before = np.random.get_state()
    np.random.seed([seed % 2**32, place % 2**32])
    try:
        yield
    finally:
        np.random.set_state(before)
