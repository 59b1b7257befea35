"""Whether the ImageNet weights that `select` and `train-seg` start from by default can be had."""

import posixpath
from dataclasses import dataclass
from pathlib import Path

from sapnet_pipe.data.checks.findings import Findings
from sapnet_pipe.data.errors import FaultKind
from sapnet_pipe.data.files import sha256_file
from sapnet_pipe.pipeline.doctor.reach import is_within_reach
from sapnet_pipe.stages.training.backbone_config import IMAGENET_SHA256, BackboneConfig, imagenet_url

_DAMAGED = FaultKind(
    "backbone-weights-damaged",
    "is not the published file, and select and train-seg refuse it",
    "Move it away: it is downloaded again",
)
_OUT_OF_REACH = FaultKind(
    "backbone-weights-out-of-reach",
    "is not there and cannot be downloaded from here, but select and train-seg start from it: put it there, or give "
    "another file with --set backbone.weights=FILE",
    "Put it there, or give another file with --set backbone.weights=FILE",
    error=False,
)


@dataclass(frozen=True)
class BackboneWeights:
    """The weights of the default backbone: where they are or will be, and what is known of them."""

    name: str
    path: Path
    state: str


def check_backbone_weights(cache: Path, findings: Findings) -> BackboneWeights:
    """Look for the weights in torch's cache, and compare their checksum; ask for them where they are not there."""
    name = BackboneConfig().name
    url = imagenet_url(name)
    path = cache / "checkpoints" / posixpath.basename(url)
    if path.is_file():
        if sha256_file(path) == IMAGENET_SHA256[name]:
            return BackboneWeights(name, path, "the published file (sha256 checked)")
        findings.add(_DAMAGED, path, "its sha256 differs")
        return BackboneWeights(name, path, "not the published file")
    if is_within_reach(url):
        return BackboneWeights(name, path, "not there yet: downloaded on first use")
    findings.add(_OUT_OF_REACH, path, f"no answer from {url}")
    return BackboneWeights(name, path, "not there, and cannot be downloaded from here")
