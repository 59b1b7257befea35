"""Whether the weights of SAM are at hand, and are what they claim to be."""

from dataclasses import dataclass
from pathlib import Path

from sapnet_pipe.data.checks.findings import Findings
from sapnet_pipe.data.errors import FaultKind, UserError
from sapnet_pipe.data.files import sha256_file
from sapnet_pipe.pipeline.doctor.machine import free_disk, gigabytes
from sapnet_pipe.pipeline.doctor.reach import is_within_reach
from sapnet_pipe.stages.bags.sam.checkpoints import BASE_URL, OFFICIAL, TINY_WEIGHTS, cache_folder

_BYTES = {"vit_b": 375_042_383, "vit_l": 1_249_524_607, "vit_h": 2_564_550_879}  # of the published files

_NOT_THERE = FaultKind("checkpoint-missing", "is not there", "Correct --checkpoint")
_OTHER = FaultKind("checkpoint-of-another-sam", "is of another model than --sam", "Give the --sam it is of")
_DAMAGED = FaultKind(
    "checkpoint-damaged",
    "is not the published file; generate-bags downloads it again",
    "Without a network: replace it, or give --checkpoint",
    error=False,
)
_NO_ROOM = FaultKind("no-room-for-checkpoint", "does not fit on the disk", "Free space, or set SAPNET_CACHE")
_OUT_OF_REACH = FaultKind(
    "checkpoint-out-of-reach",
    "is not there and cannot be downloaded from here, but generate-bags needs it: put it there, or give --checkpoint",
    "Put it there, or give a file with --checkpoint",
    error=False,
)
_UNKNOWN = FaultKind(
    "checkpoint-unknown",
    "is none of the published files (fine, if it is your own)",
    "Nothing, if that is meant",
    error=False,
)


@dataclass(frozen=True)
class SamWeights:
    """The weights that generate-bags would take: where, how large (None: not there), and what is known of them."""

    model: str
    path: Path
    bytes: int | None
    state: str


def check_sam_weights(model: str, checkpoint: Path | None, findings: Findings) -> SamWeights:
    """Look for the weights of `model`, and compare their checksum."""
    if checkpoint is not None:
        return _given(model, checkpoint, findings)
    if model not in OFFICIAL:
        return SamWeights(model, TINY_WEIGHTS, TINY_WEIGHTS.stat().st_size, "part of sapnet-pipe")
    path = cache_folder() / OFFICIAL[model].file
    if not path.is_file():
        free, needed = free_disk(path), _BYTES[model]
        if free is not None and free < needed:
            findings.add(_NO_ROOM, path, f"{gigabytes(needed)} are needed, {gigabytes(free)} are free")
        url = f"{BASE_URL}/{OFFICIAL[model].file}"
        if is_within_reach(url):
            return SamWeights(model, path, None, f"not there yet: downloaded on first use ({gigabytes(needed)})")
        findings.add(_OUT_OF_REACH, path, f"no answer from {url}")
        return SamWeights(model, path, None, "not there, and cannot be downloaded from here")
    if sha256_file(path) == OFFICIAL[model].sha256:
        return SamWeights(model, path, path.stat().st_size, "the published file (sha256 checked)")
    findings.add(_DAMAGED, path, f"{gigabytes(path.stat().st_size)}, sha256 differs")
    return SamWeights(model, path, path.stat().st_size, "not the published file: downloaded again")


def _given(model: str, path: Path, findings: Findings) -> SamWeights:
    try:
        digest = sha256_file(path)
    except UserError as error:
        findings.add(_NOT_THERE, path, error.problem)
        return SamWeights(model, path, None, "not there")
    size = path.stat().st_size
    name = next((name for name, official in OFFICIAL.items() if official.sha256 == digest), None)
    if name is None:
        findings.add(_UNKNOWN, path, f"sha256 {digest[:12]}...")
        return SamWeights(model, path, size, "not a published file")
    if name != model:
        findings.add(_OTHER, path, f"it is {name}, but --sam is {model}")
        return SamWeights(model, path, size, f"the published {name}")
    return SamWeights(model, path, size, "the published file (sha256 checked)")
