"""The packages that matter: which version is installed, whether it is one we work with, and whether it works."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

from sapnet_pipe.data.checks.findings import Findings
from sapnet_pipe.data.errors import FaultKind
from sapnet_pipe.pipeline.doctor.probe import Probe

OURS = "sapnet-pipe"
# Module -> distribution.
REQUIRED = {
    "torch": "torch",
    "torchvision": "torchvision",
    "segment_anything": "segment-anything",
    "numpy": "numpy",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "pycocotools": "pycocotools",
    "pyarrow": "pyarrow",
    "lightning_fabric": "lightning-fabric",
    "pydantic": "pydantic",
}
OPTIONAL = {"detectron2": "detectron2", "ray": "ray"}
_BAD_TORCH = "2.13.0"
_TORCHVISION_OFFSET = 15  # torch 2.N goes with torchvision 0.(N + 15)

_MISSING = FaultKind("package-missing", "package is missing", "python -m pip install sapnet-pipe, in this environment")
_BROKEN = FaultKind(
    "package-broken", "package is installed but does not work", "Install them again, in matching versions"
)
_OPTIONAL_BROKEN = FaultKind(
    "optional-package-broken",
    "optional package is installed but does not work",
    "Install them again, or uninstall them",
    error=False,
)
_VERSION = FaultKind(
    "package-version", "package is of a version that sapnet-pipe excludes", "Install one that the example names"
)
_TORCH = FaultKind(
    "torch-known-bad",
    f"package is {_BAD_TORCH}, with which sapnet-pipe does not work",
    "python -m pip install 'torch>=2.6,!=2.13.0' together with the torchvision of that release",
)
_PAIR = FaultKind(
    "torchvision-of-another-torch",
    "package was made for another torch",
    "Install both at once: python -m pip install --upgrade torch torchvision",
)


@dataclass(frozen=True)
class Package:
    """A package of the table: its module, its version (empty if it is not there), whether and why it does not work."""

    module: str
    version: str
    installed: bool
    error: str | None


def table_of(probes: dict[str, Probe]) -> list[Package]:
    """What is installed, required packages first."""
    found = []
    for module, distribution in (REQUIRED | OPTIONAL).items():
        probe = probes[module]
        version = _installed(distribution) or probe.version
        found.append(Package(module, version, not probe.missing, None if probe.missing else probe.error))
    return found


def check_packages(packages: Iterable[Package], findings: Findings) -> None:
    """Missing and broken packages, excluded versions, and a torch and torchvision that do not go together."""
    versions = {package.module: package.version for package in packages}
    for package in packages:
        if not package.installed and package.module in REQUIRED:
            findings.add(_MISSING, package.module, f"there is no module {package.module}")
        elif package.error is not None:
            kind = _BROKEN if package.module in REQUIRED else _OPTIONAL_BROKEN
            findings.add(kind, package.module, package.error[:200])
    torch, torchvision = versions.get("torch", ""), versions.get("torchvision", "")
    if torch.split("+")[0] == _BAD_TORCH:
        findings.add(_TORCH, "torch", torch)
    expected = fitting_torchvision(torch)
    if torchvision and expected and not torchvision.startswith(f"{expected}."):
        findings.add(_PAIR, "torchvision", f"it is {torchvision}, but torch {torch} goes with {expected}")
    for name, version, wanted in _excluded():
        findings.add(_VERSION, name, f"it is {version}, but {name}{wanted} is needed")


def fitting_torchvision(torch: str) -> str | None:
    """The series of torchvision that was released with a torch: "2.14.1" -> "0.29"; None for another torch than 2."""
    parts = torch.split(".")
    return f"0.{int(parts[1]) + _TORCHVISION_OFFSET}" if len(parts) > 2 and parts[0] == "2" else None


def our_version() -> str:
    """Of sapnet-pipe itself; in a source folder that is not installed there is none."""
    return _installed(OURS) or "not installed (source folder)"


def _installed(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _excluded() -> list[tuple[str, str, str]]:
    """(name, installed version, wanted) of our own requirements that are not met by what is installed."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return []
    found = []
    try:
        wanted = metadata.requires(OURS) or []
    except metadata.PackageNotFoundError:
        return []
    for text in wanted:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _installed(requirement.name)
        if version and not requirement.specifier.contains(version, prereleases=True):
            found.append((requirement.name, version, str(requirement.specifier)))
    return found
