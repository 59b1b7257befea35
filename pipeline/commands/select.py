"""`sapnet-pipe select`: stage two in a run folder."""

from collections.abc import Mapping
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from sapnet_pipe.data.files import sha256_file
from sapnet_pipe.pipeline.inputs import BagStore, Draw, Images, Inputs, OutFolder, Resume, Truth
from sapnet_pipe.pipeline.outputs import require_folder, require_new_folder
from sapnet_pipe.pipeline.report import Report
from sapnet_pipe.pipeline.run_folder import open_run
from sapnet_pipe.pipeline.settings import Presets
from sapnet_pipe.stages.flags import KeepCrowds
from sapnet_pipe.stages.select.config import SelectConfig, oracle_without_truth
from sapnet_pipe.stages.select.presets import ABOUT, PRESETS
from sapnet_pipe.stages.training.run_files import PSEUDO_LABELS

if TYPE_CHECKING:
    from sapnet_pipe.data.bag_store.store import BagStore as OpenStore


class SelectInputs(Inputs, frozen=True, extra="forbid"):
    """What `select` takes."""

    bags: BagStore
    images: Images
    out: OutFolder
    preset: Annotated[str, Presets(PRESETS, ABOUT)] = Field(default="coco-1x", description="Named settings.")
    truth: Truth = None
    keep_crowds: KeepCrowds = False
    draw: Draw = None
    explain: bool = Field(default=False, description="Write explain.parquet: every mask's scores at every step.")
    resume: Resume = False


def select(inputs: SelectInputs, settings: SelectConfig) -> Report:
    """Train the selector (if the method is a trained one), choose a mask for every point, write pseudo labels."""
    images, out, truth, resume = inputs.images, inputs.out, inputs.truth, inputs.resume
    if settings.method == "oracle" and truth is None:
        raise oracle_without_truth()
    require_folder(images, "--images")
    if inputs.draw is not None:
        require_new_folder(inputs.draw, "--draw")

    from sapnet_pipe.data.bag_store.filesystem import parse_location
    from sapnet_pipe.data.bag_store.store import BagStore
    from sapnet_pipe.data.coco.instances import read_truth

    store = BagStore.open(parse_location(inputs.bags))
    dataset = None if truth is None else read_truth(truth, keep_crowds=inputs.keep_crowds)

    from sapnet_pipe.stages.select.run import run  # torch, which a fault above need not wait for

    hashes = {"bags": store.fingerprint}
    if truth is not None:
        hashes["truth"] = sha256_file(truth) + (" with its crowds" if inputs.keep_crowds else "")
    with open_run(out, command="select", settings=settings, inputs=hashes, seed=settings.seed, resume=resume) as folder:
        summary = run(
            store, images, out, settings, truth=dataset, explain=inputs.explain, resume=resume, quiet=inputs.quiet
        ).to_dict() | {"images_without_bags": len(store.manifest.failed)}
        folder.finish(summary)
    labels, pictures = out / PSEUDO_LABELS, []
    if inputs.draw is not None and folder.written:
        from sapnet_pipe.data.coco.instances import read_instances
        from sapnet_pipe.pipeline.pictures.choices import draw_differences
        from sapnet_pipe.pipeline.pictures.strips import draw_choices

        pictures = [
            draw_choices(inputs.draw, store, labels, images, dataset, quiet=inputs.quiet),
            draw_differences(inputs.draw, store, read_instances(labels), images, dataset, quiet=inputs.quiet),
        ]
    following = f"sapnet-pipe train-seg --labels {quote(str(labels))} --images {quote(str(images))} --out RUN2"
    return Report(
        f"Pseudo labels written to {labels}",
        summary,
        following,
        shown=_shown(summary),
        notes=[
            *folder.notes,
            *(dataset.notes if dataset is not None else ()),
            *_without_bags(store),
            *summary["notes"],
            *_notes(summary),
            *pictures,
        ],
        silent=not folder.written,
    )


def _shown(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The summary without the breakdown of every choice's quality, which manifest.json and --json have whole."""
    shown = {name: value for name, value in summary.items() if name not in ("training", "quality", "notes")}
    if summary["fallback"] is not None:
        shown["method"] = f"{summary['source']}, in place of {summary['method']}"
    training = summary["training"] or {}
    kept = ("iterations", "skipped_steps", "bag_accuracy", "object_accuracy", "chance", "restarts", "learning_rate")
    shown["training"] = {name: training[name] for name in kept if name in training}
    shown["miou"] = {name: figures["miou"] for name, figures in (summary["quality"] or {}).items()}
    return shown


def _without_bags(store: "OpenStore") -> list[str]:
    failed = store.manifest.failed
    if not failed:
        return []
    points = sum(image.points for image in failed)
    return [
        f"{len(failed)} images with {points} points have no bags, since they could not be read (first "
        f"{failed[0].file_name}): generate-bags --retry-failed tries them again."
    ]


def _notes(summary: Mapping[str, Any]) -> list[str]:
    training = summary["training"] or {}
    if summary["fallback"] is None and not training.get("at_chance"):
        return []
    hint = "train longer (--set train.max_iterations=...) or check the points' categories."
    if summary["fallback"] is None:
        return [
            f"The selector has learnt nothing ({training['verdict']}): its choice is no better than a guess; {hint}"
        ]
    if not training:
        return [f"These labels are SAM's top-1, not of {summary['method']}: {summary['fallback']}."]
    return [
        f"The selector has learnt nothing ({summary['fallback']}), so these labels are SAM's top-1, marked by their "
        f"source: {hint}"
    ]
