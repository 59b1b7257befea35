"""What the selector sees of photographs: their pixels, by a network that trains, or features that are computed once.

The one place that knows of both; training and inference are given a `FeatureSource`.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.files import read_json, write_json
from sapnet_pipe.stages.select.batches.bag_images import BagImages
from sapnet_pipe.stages.select.batches.loader import InputReader
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.select.frozen.source import open_frozen
from sapnet_pipe.stages.select.network.roi_features import FeatureProvider, PyramidProvider
from sapnet_pipe.stages.training.backbone import build_backbone
from sapnet_pipe.stages.training.backbone_config import BackboneConfig
from sapnet_pipe.stages.training.distributed import is_main_process
from sapnet_pipe.stages.training.run_files import BACKBONE

_LOG = logging.getLogger(__name__)


class FeatureSource(Protocol):
    """What batches hold of images, and the provider that makes features of it."""

    @property
    def reader(self) -> InputReader | None:
        """Reads what batches hold; None for the pixels of the photographs."""

    def provider(self, *, resume: bool) -> tuple[FeatureProvider, BackboneConfig]:
        """A provider with its first weights (torch's global random state), and what backbone is behind it.

        Args:
            resume: The weights are those of a run that goes on, and will be read from its checkpoint.
        """


@dataclass(frozen=True)
class Photographs:
    """The source that trains: pixels, and a backbone and RoI head on them. `out` is the run folder."""

    config: SelectConfig
    out: Path
    reader: InputReader | None = None

    def provider(self, *, resume: bool) -> tuple[FeatureProvider, BackboneConfig]:
        """See `FeatureSource`; a resumed run gets the backbone that it began with, as the run folder says."""
        file = self.out / BACKBONE
        known = resume and file.is_file()
        wanted = BackboneConfig.model_validate(read_json(file)) if known else self.config.backbone
        backbone, resolved = build_backbone(wanted, load=not known)
        if not known and is_main_process():
            write_json(file, resolved.model_dump(mode="json"), indent=2)
        return PyramidProvider(backbone, self.config.head), resolved


def open_source(store: BagStore, images: BagImages, config: SelectConfig, out: Path, *, quiet: bool) -> FeatureSource:
    """The source that the settings ask for.

    Raises: UserError as `stages.select.frozen.source.open_frozen`.
    """
    if config.frozen.enabled:
        return open_frozen(store, images, config, out, quiet=quiet)
    return Photographs(config, out)
