"""The examination as a page of text, most urgent last, where the eye is."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sapnet_pipe.data.checks.findings import Finding
from sapnet_pipe.pipeline.doctor.estimate import Estimate, TrainingEstimate
from sapnet_pipe.pipeline.doctor.machine import gigabytes
from sapnet_pipe.pipeline.doctor.packages import OPTIONAL, Package
from sapnet_pipe.pipeline.doctor.probe import Probe
from sapnet_pipe.pipeline.doctor.run import Examination
from sapnet_pipe.stages.training.forecast import spoken_time

if TYPE_CHECKING:
    from sapnet_pipe.data.checks.preflight import CheckedFile

_WITHOUT = {
    "detectron2": "not installed; train-seg takes the builtin engine",
    "ray": "not installed; stage one runs on one machine",
}


def page_of(found: Examination) -> str:
    """Everything that was found, for people."""
    parts = [
        [f"sapnet-pipe {found.version}, Python {found.machine.python}, {found.machine.system}"],
        ["", "Packages", *(_package(package, found.probes[package.module]) for package in found.packages)],
        ["", "Machine", *_machine(found)],
        *([] if not found.files else [["", "Files", *_files(found)]]),
        *([] if found.estimate is None else [["", "Stage one, roughly", *_estimate(found.estimate)]]),
        *([["", "Stages two and three, roughly", *_trainings(found.trainings)]] if found.trainings else []),
        *([] if not found.warnings else [["", "Worth knowing", *_findings(found.warnings, "- ")]]),
        ["", *ending(found.errors)],
    ]
    return "\n".join(line for part in parts for line in part)


def _row(name: str, text: str) -> str:
    return f"  {name:<18} {text}"


def _package(package: Package, probe: Probe) -> str:
    if not package.installed:
        return _row(package.module, _WITHOUT.get(package.module, "MISSING"))
    if package.error is not None:
        return _row(package.module, f"{package.version:<12} DOES NOT WORK: {package.error[:80]}")
    more = ""
    if package.module == "detectron2" and not probe.details.get("compiled", True):
        more = "without its C extension, which is not needed here"
    return _row(package.module, f"{package.version:<12} {more}" if package.module in OPTIONAL else package.version)


def _machine(found: Examination) -> Iterator[str]:
    machine = found.machine
    memory = gigabytes(machine.memory)
    free = "" if machine.memory_free is None else f", {gigabytes(machine.memory_free)} of it free"
    yield _row("cpu", f"{machine.cores} cores, {memory} of memory{free}")
    for index, gpu in enumerate(machine.cuda):
        yield _row(f"cuda:{index}", f"{gpu['name']}, {gigabytes(gpu['total'])}, {gigabytes(gpu['free'])} of it free")
    if machine.mps:
        yield _row("mps", "Apple GPU")
    if not machine.cuda and not machine.mps:
        why = "this torch is built without CUDA" if machine.torch_cuda is None else "torch sees none"
        yield _row("GPU", f"none ({why})")
    yield _row("disk here", f"{gigabytes(found.disk_free)} free")
    yield _row(f"SAM {found.weights.model}", f"{found.weights.path}: {found.weights.state}")
    if found.backbone is not None:
        yield _row(found.backbone.name, f"{found.backbone.path}: {found.backbone.state}")


def _files(found: Examination) -> Iterator[str]:
    for name, checked in found.files.items():
        yield _row(name, f"{checked.path}: {_held(name, checked)}")
        if checked.photographs:
            yield _row("", f"{checked.photographs} photographs looked for, {checked.decoded} of them decoded")


def _held(name: str, checked: "CheckedFile") -> str:
    if name == "images":
        return "a folder"
    several = len(checked.forms) > 1
    forms = ", ".join(f"{number} as {form}" if several else form for form, number in checked.forms.items())
    objects = f"{checked.objects} {'points' if name == 'points' else 'masks'}" + (f" ({forms})" if forms else "")
    return f"{checked.images} images, {checked.categories} categories, {objects}"


def _estimate(estimate: Estimate) -> Iterator[str]:
    yield _row("work", f"{estimate.points} points of {estimate.images} images, {estimate.recipe}, SAM {estimate.sam}")
    yield _row("time", f"{spoken_time(estimate.seconds)} on this {estimate.device}")
    yield _row("disk", f"{gigabytes(estimate.bytes)} for the bags")
    yield _row("estimated from", f"{estimate.gflops / 1000:.3g} TFLOP/s, timed now; right within a factor of two")


def _trainings(trainings: Sequence[TrainingEstimate]) -> Iterator[str]:
    for one in trainings:
        yield _row(one.command, f"{spoken_time(one.seconds):<12} for the {one.steps} steps of --preset {one.preset}")


def _findings(findings: Sequence[Finding], mark: str | None) -> Iterator[str]:
    for number, finding in enumerate(findings, 1):
        lead = f"{number}. " if mark is None else mark
        share = _share(finding)
        yield f"  {lead}{finding.file}: {share}{finding.kind.problem}"
        yield f"       e.g. {finding.example}"
        if finding.kind.error:
            yield f"       {finding.kind.hint}."


def _share(finding: Finding) -> str:
    """How many of how many; nothing where it is about the file as such."""
    if finding.of is None:
        return "" if finding.count == 1 else f"{finding.count} "
    return f"{finding.count} of {finding.of} " if finding.of >= finding.count else f"{finding.count} "


def ending(errors: Sequence[Finding]) -> Iterator[str]:
    """What has to be fixed, the last lines of the page."""
    if not errors:
        yield "Nothing has to be fixed."
        return
    yield f"To fix, most urgent first ({len(errors)})"
    yield from _findings(errors, None)
