"""Maps of features of every image, computed once and memory-mapped: a folder per store, image size and backbone."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import disk_errors, read_json, write_json
from sapnet_pipe.data.progress import progress_bar
from sapnet_pipe.stages.select.batches.bag_images import BagImages
from sapnet_pipe.stages.select.batches.loader import InferenceBatches
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.select.frozen.map_features import summed_area
from sapnet_pipe.stages.select.network.roi_head import ROI_LEVELS
from sapnet_pipe.stages.training.backbone import ResNetFpn
from sapnet_pipe.stages.training.backbone_config import STRIDES
from sapnet_pipe.stages.training.devices import limit_threads, pick_device
from sapnet_pipe.stages.training.image_batch import ImageTransform
from sapnet_pipe.stages.training.loader import load_in_order

_MAPS, _ABOUT = "maps.npy", "about.json"
_Maps = tuple[NDArray[np.float16], NDArray[np.float32], NDArray[np.float32]]


class MapReader:
    """Summed-area tables of all images' maps, read from disk as needed; the ``InputReader`` of batches without images.

    Args:
        maps: (I, G, G, C) float16, memory-mapped. mean, std: (C,) float32, over all cells inside the photographs.
        megabytes: Memory for tables that are kept.
    """

    def __init__(
        self, maps: NDArray[np.float16], mean: NDArray[np.float32], std: NDArray[np.float32], megabytes: int
    ) -> None:
        self.channels = maps.shape[-1]
        self._maps, self._mean, self._std, self._left = maps, mean, std, megabytes * 2**20
        self._kept: dict[int, NDArray[np.float32]] = {}

    def __call__(
        self,
        chosen: Sequence[int],
        transforms: Sequence[ImageTransform],
        whole: Sequence[ImageTransform],
        rows: Sequence[NDArray[np.int64]],
    ) -> Tensor:
        """Tables (len(chosen), G + 1, G + 1, C) of some images, none of which is mirrored."""
        return torch.from_numpy(np.stack([self._table(image) for image in chosen]))

    def _table(self, image: int) -> NDArray[np.float32]:
        if image in self._kept:
            return self._kept[image]
        table = summed_area(self._maps[image], self._mean, self._std)
        if table.nbytes <= self._left:
            self._left -= table.nbytes
            self._kept[image] = table
        return table


def feature_maps(
    backbone: ResNetFpn, images: BagImages, config: SelectConfig, folder: Path, store: str, *, quiet: bool
) -> MapReader:
    """The maps of a store, computed if they are not in `folder` yet.

    Args:
        store: Fingerprint of the bags.
    Raises: UserError for photographs that cannot be read, or a folder that cannot be written.
    """
    known = folder / _key(backbone, config, store)
    shape = (len(images), config.frozen.grid, config.frozen.grid, backbone.out_channels)
    found = _read(known, shape)
    if found is None:  # not there yet, or damaged: it is only a cache
        _compute(backbone, images, config, known, quiet=quiet)
        found = _read(known, shape)
    if found is None:
        hint = "Give frozen.cache a folder on another disk"
        raise UserError(known, "maps", _MAPS, "which cannot be read back as it was written", hint)
    return MapReader(*found, config.image.cache_mb)


def _read(known: Path, shape: tuple[int, ...]) -> _Maps | None:
    """What `_compute` wrote, maps of `shape`; None if it is not there, or damaged."""
    try:
        about = read_json(known / _ABOUT)
        mean, std = (np.array(about[name], np.float32) for name in ("mean", "std"))
        maps = np.load(known / _MAPS, mmap_mode="r")
    except (UserError, OSError, EOFError, ValueError, TypeError, KeyError):
        return None
    whole = maps.shape == shape and maps.dtype == np.float16 and mean.shape == std.shape == shape[-1:]
    return (maps, mean, std) if whole and bool(np.isfinite([mean, std]).all()) else None


def level_mean(pyramid: dict[str, Tensor], image: int, height: int, width: int, side: int, grid: int) -> Tensor:
    """One image's map (G, G, C): the mean of its levels, a cell being side / G pixels; zeros outside the photograph.

    Args:
        height, width: Of the image in the network's input. side: The long side of all images.
    """
    rows, columns = max(1, round(height * grid / side)), max(1, round(width * grid / side))
    total = torch.zeros(())
    for name in ROI_LEVELS:
        inner = pyramid[name][image : image + 1, :, : -(-height // STRIDES[name]), : -(-width // STRIDES[name])]
        finer = inner.shape[-2] >= rows and inner.shape[-1] >= columns
        if finer:
            total = total + F.adaptive_avg_pool2d(inner, (rows, columns))
        else:
            total = total + F.interpolate(inner, (rows, columns), mode="bilinear", align_corners=False)
    return F.pad(total[0] / len(ROI_LEVELS), (0, grid - columns, 0, grid - rows)).permute(1, 2, 0)


def _compute(backbone: ResNetFpn, images: BagImages, config: SelectConfig, known: Path, *, quiet: bool) -> None:
    limit_threads()
    device, grid = pick_device(config.device), config.frozen.grid
    batches = InferenceBatches(images, config.image, config.test.batch_size)
    with disk_errors(known):
        known.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{known.name}.", suffix=".tmp", dir=known.parent))
    try:
        shape = (len(images), grid, grid, backbone.out_channels)
        maps = np.lib.format.open_memmap(temporary / _MAPS, "w+", np.float16, shape)
        _allocate(temporary / _MAPS)
        sums = np.zeros((3, backbone.out_channels))  # count, sum, sum of squares
        backbone.to(device).eval()
        bar = progress_bar(total=len(images), desc="features", unit="image", quiet=quiet)
        with torch.inference_mode(), bar:
            for place, batch in enumerate(load_in_order(batches, range(len(batches)), config.test.workers)):
                pyramid = backbone(batch.inputs.to(device))
                for index, (height, width) in enumerate(batch.image_size.int().tolist()):
                    cells = level_mean(pyramid, index, height, width, config.image.long_side, grid).cpu()
                    maps[place * config.test.batch_size + index] = cells.numpy()
                    inside = cells[cells.abs().sum(-1) > 0].double()
                    sums += np.stack([np.full(len(sums[0]), len(inside)), inside.sum(0), inside.square().sum(0)])
                    bar.update()
        maps.flush()
        mean = sums[1] / sums[0]
        std = np.sqrt(np.maximum(sums[2] / sums[0] - mean**2, 1e-8))
        write_json(temporary / _ABOUT, {"mean": mean.tolist(), "std": std.tolist(), "images": len(images)})
        with disk_errors(known):
            if known.exists():
                shutil.rmtree(known)
            temporary.replace(known)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _allocate(path: Path) -> None:
    """Take a file's room on the disk now: where it lacks while a map of it is written, the process dies by a signal."""
    if hasattr(os, "posix_fallocate"):
        with disk_errors(path), path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _key(backbone: ResNetFpn, config: SelectConfig, store: str) -> str:
    """Sixteen hex digits of all that decides the maps."""
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    sizes: dict[str, Any] = {
        "store": store,
        "short_side": config.image.short_side,
        "long_side": config.image.long_side,
        "grid": config.frozen.grid,
    }
    digest.update(json.dumps(sizes, sort_keys=True).encode())
    return digest.hexdigest()[:16]
