"""Stage three, used: masks of every photograph by a trained segmenter."""

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sapnet_pipe.data.coco.instances import Category, ImageRecord
from sapnet_pipe.data.depth_of_set import depth_of_set
from sapnet_pipe.data.errors import FaultReport, UserError, mended
from sapnet_pipe.data.files import atomic_path
from sapnet_pipe.data.json_files import write_coco
from sapnet_pipe.data.photo_names import check_spelling, find_photograph, skipped_note
from sapnet_pipe.data.pixel_depth import AUTO, Depth
from sapnet_pipe.stages.segment.config import InferenceConfig
from sapnet_pipe.stages.segment.image_list import images_of_file, images_of_folder
from sapnet_pipe.stages.segment.results import coco_results
from sapnet_pipe.stages.segment.weights.model_file import load_model
from sapnet_pipe.stages.training.devices import limit_threads, pick_device
from sapnet_pipe.stages.training.failures import FailureBudget, Unreadable, photo_field, unreadable_note
from sapnet_pipe.stages.training.run_files import MODEL, image_ids_beside

_OTHER_DEPTH = mended("depth-of-the-model", "depth of the model's training is not taken", "That of --depth is")


@dataclass(frozen=True)
class PredictSummary:
    """What a prediction wrote.

    Attributes:
        images, instances: Photographs segmented, objects found. images_unreadable: Photographs that were left out.
        other_files: Files of the folder that are not photographs.
        notes: What is read in part, and which files were passed over, a line a kind.
        dropped: Reason -> number of predictions left out.
        predictions: The results file.
        image_ids: The file beside the results that names their images and categories.
        depth: How photographs of more than 8 bits a channel were scaled; auto if there are none.
    """

    images: int
    images_unreadable: int
    instances: int
    other_files: int
    dropped: dict[str, int]
    seconds: float
    predictions: str
    image_ids: str
    notes: list[str]
    depth: str = "auto"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def run(
    run_dir: Path,
    images_dir: Path,
    out: Path,
    *,
    images_json: Path | None = None,
    device: str = "auto",
    score_threshold: float | None = None,
    max_per_image: int | None = None,
    batch_size: int | None = None,
    depth: Depth | None = None,
    max_failure_rate: float = 0.0,
    quiet: bool = False,
) -> PredictSummary:
    """Segment photographs and write COCO results, and beside them a file that names their images and categories.

    Args:
        run_dir: Run folder of train-seg, or its model_final.pth.
        out: The results file.
        images_dir: Folder of the photographs, or one photograph.
        images_json: COCO file whose images are taken, with their ids; else all photographs of the folder, numbered
            from 1 by name.
        score_threshold: Final score below which an instance is left out.
        depth, max_per_image, batch_size: In place of the training's.
        max_failure_rate: Share of the photographs that may be unreadable; they are left out.
    Raises: UserError for a model or photograph that cannot be used.
    """
    began = time.perf_counter()
    limit_threads()
    target = pick_device(device)
    model, description = load_model(run_dir / MODEL if run_dir.is_dir() else run_dir)
    report = FaultReport(images_json or images_dir)
    lost: dict[int, UserError] = {}
    records, others = _records(images_dir, images_json, report, lost if max_failure_rate else None)
    images = len(records) + len(lost)
    unreadable = Unreadable(lost, FailureBudget(max_failure_rate, images))
    folder = images_dir.parent if images_dir.is_file() else images_dir
    test = changed_test(description.test, max_per_image, batch_size)
    taken = _depth(Depth.parse(description.depth), depth, records, folder, report, quiet)
    dropped: Counter[str] = Counter()
    results = coco_results(
        model, records, folder, source=images_json or images_dir, categories=description.categories, test=test,
        device=target, quiet=quiet, depth=taken, dropped=dropped, unreadable=unreadable,
    )  # fmt: skip
    count = _write_results(out, (entry for entry in results if entry["score"] >= (score_threshold or 0.0)))
    read = [record for record in records if record.image_id not in lost]
    ids = _write_ids(out, read, description.categories)
    return PredictSummary(
        images=len(read),
        images_unreadable=len(lost),
        instances=count,
        other_files=sum(others.values()),
        dropped=dict(dropped),
        seconds=round(time.perf_counter() - began, 3),
        predictions=str(out),
        image_ids=str(ids),
        notes=[*report.notes(), *filter(None, [skipped_note(others)]), *unreadable_note(lost, images)],
        depth=str(taken),
    )


def _records(
    images_dir: Path, images_json: Path | None, report: FaultReport, lost: dict[int, UserError] | None
) -> tuple[list[ImageRecord], dict[str, int]]:
    """The photographs to segment, and the number of other files of the folder by suffix."""
    if images_json is None:
        return images_of_folder(images_dir, report, lost)
    records = images_of_file(images_json, images_dir, report)
    check_spelling(images_dir, {record.file_name: f"image {record.image_id}.file_name" for record in records}, report)
    return records, {}


def _depth(
    trained: Depth, given: Depth | None, records: list[ImageRecord], folder: Path, report: FaultReport, quiet: bool
) -> Depth:
    """How the photographs are scaled: as given, else as the model's were, else as is decided for all of them."""
    paths = [
        find_photograph(folder, record.file_name, file=report.source, field=photo_field(record)) for record in records
    ]
    taken = depth_of_set(paths, given or trained, report, quiet=quiet)
    if taken != AUTO and given is not None and given != trained:
        report(_OTHER_DEPTH, "--depth", str(given), f"but the model was trained with {trained}")
    return taken


def changed_test(test: InferenceConfig, max_per_image: int | None, batch_size: int | None = None) -> InferenceConfig:
    """The settings with those that are given in place of the training's."""
    changes = {"max_per_image": max_per_image, "batch_size": batch_size}
    return InferenceConfig.model_validate({**test.model_dump(), **{k: v for k, v in changes.items() if v is not None}})


def _write_results(path: Path, entries: Iterable[dict[str, Any]]) -> int:
    """Write a JSON list as its entries come, whole or not at all; returns their number."""
    count = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write("[")
        for count, entry in enumerate(entries, 1):
            file.write((",\n" if count > 1 else "\n") + json.dumps(entry, allow_nan=False))
        file.write("\n]\n")
    return count


def _write_ids(out: Path, records: list[ImageRecord], categories: tuple[Category, ...]) -> Path:
    """Write down beside the results which id each photograph and each category has."""
    path = image_ids_beside(out)
    name = out.name.encode(errors="replace").decode()  # JSON holds no name that is not UTF-8
    info = {"description": f"image ids of {name}"}
    write_coco(path, info=info, images=records, categories=categories, annotations=())
    return path
