"""The examination: machine, packages, weights, files; then the estimate, and what has to be fixed first."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sapnet_pipe.data.checks.findings import Finding, Findings
from sapnet_pipe.data.errors import FaultKind
from sapnet_pipe.pipeline.doctor.backbone_weights import BackboneWeights, check_backbone_weights
from sapnet_pipe.pipeline.doctor.estimate import Estimate, TrainingEstimate, estimate_bags, estimate_trainings
from sapnet_pipe.pipeline.doctor.machine import Machine, free_disk, gigabytes, look_at_machine
from sapnet_pipe.pipeline.doctor.packages import OPTIONAL, REQUIRED, Package, check_packages, our_version, table_of
from sapnet_pipe.pipeline.doctor.probe import Probe, probe_packages
from sapnet_pipe.pipeline.doctor.sam_weights import SamWeights, check_sam_weights
from sapnet_pipe.stages.bags.config import RecipeName, SamName

if TYPE_CHECKING:
    from sapnet_pipe.data.checks.preflight import CheckedFile

_FOR_FILES = ("numpy", "cv2", "PIL", "pycocotools")  # what reading files takes
_NOT_CHECKED = FaultKind("files-not-checked", "files could not be checked", "Fix those first")
_NO_DEVICE = FaultKind("no-such-device", "is not there or does not work", "Use --device auto or cpu")
_NO_ROOM = FaultKind("disk-too-small", "has no room for the bags", "Choose another --out for generate-bags")


@dataclass(frozen=True)
class Examination:
    """All that was found.

    Attributes:
        weights, backbone: Of SAM, for stage one, and of the ResNet of stages two and three; None without torch.
        disk_free: Bytes free in the working directory.
        files: What was checked, by option.
        estimate: Of stage one; None without points.
        trainings: Estimates of stages two and three, by preset; none without points.
    """

    version: str
    packages: list[Package]
    probes: Mapping[str, Probe]
    machine: Machine
    weights: SamWeights
    backbone: BackboneWeights | None
    disk_free: int | None
    files: Mapping[str, "CheckedFile"]
    estimate: Estimate | None
    trainings: list[TrainingEstimate]
    errors: list[Finding]
    warnings: list[Finding]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        weights = asdict(self.weights) | {"path": str(self.weights.path)}
        backbone = None if self.backbone is None else asdict(self.backbone) | {"path": str(self.backbone.path)}
        return {
            "ok": not self.errors,
            "version": self.version,
            "packages": {package.module: asdict(package) for package in self.packages},
            "machine": asdict(self.machine) | {"device": self.machine.device},
            "sam": weights,
            "backbone": backbone,
            "disk_free": self.disk_free,
            "files": {name: _file_dict(checked) for name, checked in self.files.items()},
            "estimate": self.estimate.to_dict() if self.estimate else None,
            "trainings": [asdict(training) for training in self.trainings],
            "mend": [finding.to_dict() for finding in self.errors],
            "notes": [finding.to_dict() for finding in self.warnings],
        }


def examine(
    *,
    points: Path | None = None,
    images: Path | None = None,
    labels: Path | None = None,
    points_format: str | None = None,
    category: str | None = None,
    sam: SamName,
    checkpoint: Path | None = None,
    recipe: RecipeName,
    device: str,
    decode: int,
    quiet: bool = False,
) -> Examination:
    """Look at everything; nothing is written.

    Packages are imported in another process, so that a broken one is a finding.
    """
    findings = Findings()
    probes = probe_packages([*REQUIRED, *OPTIONAL], speed=device)
    packages = table_of(probes)
    check_packages(packages, findings)
    torch = probes["torch"].details
    if "speed_error" in torch:
        findings.add(_NO_DEVICE, "--device", f"{device}: {torch['speed_error'].partition('. ')[0][:200]}")
    weights = check_sam_weights(sam, checkpoint, findings)
    backbone = None if "hub" not in torch else check_backbone_weights(Path(torch["hub"]), findings)
    form: dict[str, Any] = {"form": points_format, "category": category}
    files = _check_files(points, images, labels, probes, form, decode, quiet, findings)
    estimate = _estimate(files.get("points"), torch, sam, recipe)
    trainings = [] if estimate is None else estimate_trainings(estimate.images, estimate.gflops)
    disk = free_disk(Path.cwd())
    if estimate is not None and disk is not None and disk < 1.2 * estimate.bytes:
        findings.add(_NO_ROOM, Path.cwd(), f"about {gigabytes(estimate.bytes)} are needed, {gigabytes(disk)} are free")
    return Examination(
        our_version(), packages, probes, look_at_machine(torch), weights, backbone, disk, files, estimate, trainings,
        findings.errors(), findings.warnings(),
    )  # fmt: skip


def _check_files(
    points: Path | None,
    images: Path | None,
    labels: Path | None,
    probes: Mapping[str, Probe],
    form: Mapping[str, Any],
    decode: int,
    quiet: bool,
    findings: Findings,
) -> dict[str, "CheckedFile"]:
    broken = [name for name in _FOR_FILES if probes[name].error is not None]
    given = {"points": points, "labels": labels}
    if broken and (points or labels or images):
        findings.add(_NOT_CHECKED, "packages", f"{points or labels or images}: reading it needs {', '.join(broken)}")
        return {}
    if not (points or labels or images):
        return {}
    from sapnet_pipe.data.checks.preflight import (  # OpenCV and pycocotools, known to work
        check_folder,
        check_labels,
        check_points,
    )

    checks: dict[str, Callable[..., CheckedFile]] = {"points": partial(check_points, **form), "labels": check_labels}
    files = {
        name: check(given[name], images, findings, decode=decode, quiet=quiet)
        for name, check in checks.items()
        if given[name] is not None
    }
    if not files and images is not None:
        files["images"] = check_folder(images, findings, decode=decode, quiet=quiet)
    return files


def _estimate(
    points: "CheckedFile | None", torch: Mapping[str, Any], sam: SamName, recipe: RecipeName
) -> Estimate | None:
    if points is None or not points.work or "gflops" not in torch:
        return None
    return estimate_bags(points.work, sam=sam, recipe=recipe, device=torch["device"], gflops=torch["gflops"])


def _file_dict(checked: "CheckedFile") -> dict[str, Any]:
    held = asdict(checked) | {"path": str(checked.path)}
    del held["work"]
    return held
