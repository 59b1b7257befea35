"""What an ablation works on: the user's store, photographs and truth, or the demo's scenes made for it."""

from dataclasses import dataclass
from pathlib import Path

from sapnet_pipe.data.bag_store.derived import write_point_masks
from sapnet_pipe.data.bag_store.filesystem import Location, parse_location
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import read_json, sha256_file, write_json
from sapnet_pipe.data.scenes.styles import NEW_STYLES
from sapnet_pipe.pipeline.ablate.settings import AblateSettings
from sapnet_pipe.pipeline.demo.scenes import DemoData
from sapnet_pipe.pipeline.outputs import require_folder

_SCENES = "scenes.json"


@dataclass(frozen=True)
class Inputs:
    """Where everything lies, and its fingerprints.

    Attributes:
        bags: Store by the masks that a variant sees, ``all`` or ``point``. fingerprints: Of these.
        truth: True masks of the photographs, or None. truth_sha256: Empty without.
        val_labels, val_images: What segmenters are measured on, or None.
    """

    bags: dict[str, Location]
    fingerprints: dict[str, str]
    images: Path
    truth: Path | None
    truth_sha256: str
    val_labels: Path | None
    val_images: Path | None
    val_sha256: str


def open_inputs(
    bags: str | None,
    images: Path | None,
    *,
    truth: Path | None,
    val_labels: Path | None,
    val_images: Path | None,
    masks: set[str],
    out: Path,
) -> Inputs:
    """Check the inputs and make the store of point masks, if a variant asks for it.

    Args:
        masks: What the variants see, of ``all`` and ``point``.
    Raises: UserError for what is missing or cannot be read.
    """
    for name, value in (("--bags", bags), ("--images", images)):
        if value is None:
            hint = f"Give {name}, or --demo, which renders scenes and makes their bags"
            raise UserError("ablate", name, "nothing", "but an ablation needs it", hint)
    location, folder = parse_location(str(bags)), Path(str(images))
    require_folder(folder, "--images")
    if val_images is not None:
        require_folder(val_images, "--val-images")
    store = BagStore.open(location)
    stores: dict[str, Location] = {"all": location}
    fingerprints = {"all": store.fingerprint}
    if "point" in masks:
        filtered = out / "stores" / f"point-{store.fingerprint[:12]}"
        fingerprints["point"] = write_point_masks(store, filtered).fingerprint
        stores["point"] = filtered
    return Inputs(
        bags=stores,
        fingerprints=fingerprints,
        images=folder,
        truth=truth,
        truth_sha256="" if truth is None else sha256_file(truth),
        val_labels=val_labels,
        val_images=val_images,
        val_sha256="" if val_labels is None else sha256_file(val_labels),
    )


def make_demo(out: Path, settings: AblateSettings, *, quiet: bool) -> dict[str, DemoData]:
    """Scenes, points and bags: the demo's in ``out/demo`` under no name, or new sets by their names in ``out/sets``.

    What an interrupted run made is kept.

    Raises: UserError if there are others there.
    """
    if not settings.sets:
        return {"": _made(DemoData(out / "demo", settings, quiet), settings)}
    styles = list(NEW_STYLES)[: settings.sets]
    return {style: _made(DemoData(out / "sets" / style, settings, quiet, style=style), settings) for style in styles}


def _made(demo: DemoData, settings: AblateSettings) -> DemoData:
    """Raises: UserError if the folder has other scenes."""
    record, file = settings.model_dump(include={"train_scenes", "test_scenes", "seed"}), demo.out / _SCENES
    if file.is_file():
        found = read_json(file)
        name = next((name for name, value in record.items() if found.get(name) != value), None)
        if name is not None:
            problem, hint = f"but now it is {record[name]}", "Give the same, or choose a new --out"
            raise UserError(file, name, found.get(name), problem, hint)
    else:
        write_json(file, record)
    if not demo.points.is_file():
        demo.render()
    demo.generate_bags()
    return demo
