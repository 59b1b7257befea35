"""Which frozen features a run trains on: SAM's of a store that holds them, or a backbone's, computed once."""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from sapnet_pipe.data.bag_store.masks import FEATURE_COLUMN
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import disk_errors, read_json
from sapnet_pipe.stages.select.batches.bag_images import BagImages
from sapnet_pipe.stages.select.batches.loader import InputReader
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.select.frozen.cache import feature_maps
from sapnet_pipe.stages.select.frozen.map_features import MapProvider
from sapnet_pipe.stages.select.frozen.mask_features import MaskFeatureReader, MaskProvider
from sapnet_pipe.stages.select.network.roi_features import FeatureProvider
from sapnet_pipe.stages.training.backbone import ResNetFpn, build_backbone
from sapnet_pipe.stages.training.backbone_config import BackboneConfig
from sapnet_pipe.stages.training.checkpoint import load_checkpoint, load_weights
from sapnet_pipe.stages.training.distributed import world_size
from sapnet_pipe.stages.training.run_files import BACKBONE, CHECKPOINT, FEATURES

_LOG = logging.getLogger(__name__)
_PREFIX = "backbone."


@dataclass(frozen=True)
class FrozenSource:
    """A `stages.select.feature_source.FeatureSource` of features that are not trained.

    Attributes:
        reader: Gives a batch its features. make: A new provider. backbone: What made the features.
    """

    reader: InputReader
    make: Callable[[], FeatureProvider]
    backbone: BackboneConfig

    def provider(self, *, resume: bool) -> tuple[FeatureProvider, BackboneConfig]:
        """A new provider, whether the run is resumed or not."""
        return self.make(), self.backbone


def open_frozen(store: BagStore, images: BagImages, config: SelectConfig, out: Path, *, quiet: bool) -> FrozenSource:
    """Find the features that the settings ask for, or compute them.

    Raises: UserError if the store has none of SAM's though they are asked for, if a photograph or the backbone cannot
        be read, or in one of several processes.
    """
    if world_size() > 1:
        hint = "Start it once: it takes seconds"
        raise UserError("settings", "frozen.enabled", "true", f"in {world_size()} processes", hint)
    wanted = config.frozen.features
    masks = MaskFeatureReader.read(store) if wanted != "backbone" else None
    if masks is not None:
        mean, std = masks.statistics()
        return FrozenSource(masks, lambda: MaskProvider(mean, std, config.head), config.backbone)
    if wanted == "sam":
        hint = "Make the bags with --features, or set frozen.features to backbone"
        raise UserError(store.folder, FEATURE_COLUMN, "missing", "so there are no features of SAM", hint)
    backbone, resolved = _backbone(config)
    maps = feature_maps(backbone, images, config, _folder(store, config, out), store.rows_key, quiet=quiet)
    return FrozenSource(maps, lambda: MapProvider(maps.channels, config), resolved)


def takes_features_of_store(store: BagStore, config: SelectConfig) -> bool:
    """Whether `open_frozen` needs no photographs."""
    return config.frozen.enabled and config.frozen.features != "backbone" and store.has_features


def _backbone(config: SelectConfig) -> tuple[ResNetFpn, BackboneConfig]:
    """The backbone of the settings, or that of a finished run."""
    if not config.frozen.weights:
        torch.manual_seed(config.seed)
        backbone, resolved = build_backbone(config.backbone)
        if resolved.weights == "none":
            _LOG.warning("the frozen backbone has random weights, so its features tell little: set frozen.weights")
        return backbone, resolved
    run = Path(config.frozen.weights)
    path = run / CHECKPOINT
    resolved = BackboneConfig.model_validate(read_json(run / BACKBONE))
    state = {
        name.removeprefix(_PREFIX): value for name, value in load_checkpoint(path).model.items() if _PREFIX in name
    }
    backbone, _ = build_backbone(resolved, load=False)
    load_weights(backbone, state, path)
    return backbone, resolved


def _folder(store: BagStore, config: SelectConfig, out: Path) -> Path:
    """Where the features are kept: as set, else beside the store if that can be written, else in the run folder."""
    if config.frozen.cache:
        return Path(config.frozen.cache)
    if isinstance(store.folder, Path):
        beside = store.folder.parent / f"{store.folder.name}.features"
        try:
            with disk_errors(beside):
                beside.mkdir(exist_ok=True)
                tempfile.TemporaryFile(dir=beside).close()
        except UserError:
            return out / FEATURES
        return beside
    return out / FEATURES
