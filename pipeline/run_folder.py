"""The folder of one run: resolved settings, manifest, and the rule that a run is never overwritten by another."""

import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from shlex import quote
from typing import Any

from pydantic import BaseModel

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import disk_errors, read_json, write_bytes, write_json
from sapnet_pipe.data.folder_lock import contents, held_folder
from sapnet_pipe.pipeline.machine_faults import machine_fault
from sapnet_pipe.pipeline.settings import read_toml, to_toml
from sapnet_pipe.stages.flags import Flag
from sapnet_pipe.stages.training.backbone_config import IMAGENET
from sapnet_pipe.stages.training.run_files import CONFIG, MANIFEST, METRICS

_PACKAGES = ("sapnet-pipe", "torch", "torchvision", "segment-anything", "lightning-fabric", "pycocotools", "numpy")

_LENGTH = "the learning rate goes on as in a run of that length from the start, which the steps done before were not"
# What a resumed run may have otherwise than it began, and what to say of it: it does the same steps in another place or
# in another way, or more of them. Everything else decides what was learnt so far.
MAY_CHANGE = {
    "device": "",
    "train.max_iterations": _LENGTH,
    "train.epochs": _LENGTH,
    "train.min_iterations": _LENGTH,
    "train.checkpoint_every": "",
    "train.checkpoint_minutes": "",
    "train.log_every": "",
    "train.workers": "",
    "test.workers": "",
}

MOST_NAMED = 6
"""Changed settings that an error names one by one."""


@dataclass(frozen=True)
class RunFolder:
    """An opened run folder.

    Attributes:
        path: The folder.
        manifest: What manifest.json holds.
        written: Whether this process writes; of several that train together the first one does.
        notes: What the user should know of how the run goes on.
    """

    path: Path
    manifest: dict[str, Any]
    written: bool = True
    notes: tuple[str, ...] = ()

    def finish(self, result: Mapping[str, Any]) -> None:
        """Record the result metrics and that the run is complete."""
        if not self.written:
            return
        write_json(self.path / MANIFEST, {**self.manifest, "status": "complete", "result": result}, indent=2)


@contextmanager
def open_run(
    path: Path, *, command: str, settings: BaseModel, inputs: Mapping[str, str], seed: int, resume: bool
) -> Iterator[RunFolder]:
    """Create the run folder, or with `resume` go on in the one that is there; no other process works in it meanwhile.

    A run that a UserError or the machine ends before it has learnt anything leaves no trace: what was fixed can be run
    again under the same name. A resumed run that ends so keeps the manifest and settings that it had.

    Args:
        path: The folder, which must be new (or empty) unless `resume`.
        command: For example ``select``.
        settings: Resolved settings; a resumed run must have the same, except for those in `MAY_CHANGE`.
        inputs: Names of the inputs and their fingerprints; a resumed run must have the same.
        seed: The run's seed.
    Raises: UserError if the folder is taken or at work, or belongs to another command, other settings or other inputs.
    """
    manifest = {
        "command": command,
        "status": "running",
        "seed": seed,
        "inputs": dict(inputs),
        "versions": _versions(),
    }
    if not _is_main_process():
        yield RunFolder(path, manifest, written=False)
        return
    with disk_errors(path):
        if path.exists() and not path.is_dir():
            raise UserError("--out", "path", str(path), "a file, not a folder", "Choose another path")
    with held_folder(path):
        before, notes = _check_free(path, manifest, settings, resume)
        try:
            write_json(path / MANIFEST, manifest, indent=2)
            write_bytes(path / CONFIG, to_toml(settings).encode())
            yield RunFolder(path, manifest, notes=notes)
        except Exception as error:
            if not isinstance(error, UserError) and machine_fault(error) is None:
                raise
            if before:
                _restore(path, before)
            elif not _has_learnt(path):
                _empty(path)
            raise


def _is_main_process() -> bool:
    from sapnet_pipe.stages.training.distributed import is_main_process

    return is_main_process()


def _check_free(
    path: Path, manifest: Mapping[str, Any], settings: BaseModel, resume: bool
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Raises: UserError unless the run may use the folder. Returns: the run's files to put back, and notes."""
    if not _is_utf8(str(path.absolute())):
        hint = "Choose a folder whose name, and those above it, are UTF-8"
        raise UserError("--out", "path", str(path), "a name that TensorBoard cannot write to", hint)
    if not contents(path):
        return {}, ()
    if not (path / MANIFEST).exists():
        raise UserError("--out", "path", str(path), "holds files of something else", "Choose a new folder")
    notes = _check_same_run(path, manifest, settings, resume)
    with disk_errors(path):
        return {name: (path / name).read_bytes() for name in (MANIFEST, CONFIG) if (path / name).exists()}, notes


def _is_utf8(text: str) -> bool:
    """Whether a path is text, and not bytes of another encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _has_learnt(path: Path) -> bool:
    """Whether a training wrote its first record: from here on the run is worth resuming."""
    log = path / METRICS
    return log.is_file() and log.stat().st_size > 0


def _restore(path: Path, before: Mapping[str, bytes]) -> None:
    for name, content in before.items():
        if (path / name).read_bytes() != content:
            write_bytes(path / name, content)


def _empty(path: Path) -> None:
    """Remove what this run has put into the folder, which was empty before."""
    for entry in contents(path):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _check_same_run(path: Path, wanted: Mapping[str, Any], settings: BaseModel, resume: bool) -> tuple[str, ...]:
    file = path / MANIFEST
    found = read_json(file)
    if not isinstance(found, dict) or "command" not in found:
        raise UserError(file, "command", "missing", "not the manifest of a run", "Choose a new folder")
    if not resume:
        hint = "Add --resume to go on with that run, or choose a new folder"
        raise UserError("--out", "path", str(path), f"already holds a {found['command']} run", hint)
    if found["command"] != wanted["command"]:
        raise UserError(file, "command", found["command"], f"not {wanted['command']}", "Choose a new folder")
    inputs = found.get("inputs")
    for name, fingerprint in wanted["inputs"].items():
        before = inputs.get(name) if isinstance(inputs, dict) else None
        if before != fingerprint:
            problem = f"but {name} is now {fingerprint[:12]}"
            hint = "Give the same input" if before else f"Leave {name} out, as the run began"
            raise UserError(file, f"inputs.{name}", before, problem, f"{hint}, or choose a new folder")
    if not (path / CONFIG).exists() and not _has_learnt(path):
        return ()  # killed before it wrote them
    return _check_same_settings(path / CONFIG, settings)


def _check_same_settings(file: Path, settings: BaseModel) -> tuple[str, ...]:
    """Raises: UserError for a changed setting that may not change. Returns: a note for each change of the length."""
    # A setting that this version has and the run's did not was what its default says.
    before = _flat(type(settings)().model_dump(mode="json")) | _of_today(_flat(read_toml(file)))
    now = _flat(settings.model_dump(mode="json"))
    names = sorted(before.keys() | now.keys(), key=lambda name: ("." in name, name))  # the method and the seed first
    changed = [name for name in names if before.get(name) != now.get(name)]
    fixed = [name for name in changed if name not in MAY_CHANGE]
    if fixed:
        name = fixed[0]
        began = _as_it_began(file, {key: before[key] for key in fixed if key in before}, settings)
        hint = (
            f"A changed setting needs a new folder; to go on as it began add {began}"
            if began
            else "Choose a new folder"
        )
        raise UserError(file, name, before.get(name), f"but now it is {now.get(name)!r}", hint)
    return tuple(
        f"{name} was {before.get(name)} and is {now.get(name)} from here on: {MAY_CHANGE[name]}."
        for name in changed
        if MAY_CHANGE[name]
    )


def _as_it_began(file: Path, values: Mapping[str, Any], settings: BaseModel) -> str:
    """The options that give a run its settings again; the run's own file, where they are many (another preset)."""
    in_file = {} if len(values) <= MOST_NAMED else _flat(read_toml(file))
    flags = {
        name: any(isinstance(mark, Flag) for mark in field.metadata)
        for name, field in type(settings).model_fields.items()
    }
    options = [f"--config {quote(str(file))}"] if in_file else []
    for key, value in values.items():
        if flags.get(key) and not isinstance(value, bool):  # a flag that is given wins over --set and --config
            options.append(f"--{key.replace('_', '-')} {quote(str(value))}")
        elif in_file.get(key) != value:
            options.append(f"--set {key}={_as_argument(value)}")
    return " ".join(options)


def _of_today(before: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run of an earlier version under the names and meanings of today."""
    if before.get("backbone.weights") == "auto":  # backbone.json says what they were
        before["backbone.weights"] = IMAGENET
    if "prm.prior" in before and "prm.beta" not in before:  # of `select`, before sapnet was the paper's alone
        before["prm.beta"] = False
        if before.get("method") == "sapnet" and (
            before.get("completeness.enabled") or before.get("assignment.enabled")
        ):
            before["method"] = "sapnet-plus"
    return before


def _as_argument(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value
    return flat


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
