"""`sapnet-pipe bags verify|inspect|merge|import|export`: checking, joining and carrying bags over."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Annotated

from pydantic import Field

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.bags_page import bags_page
from sapnet_pipe.pipeline.inputs import Argument, Draw, Inputs, OutFile, OutStore, PlainSettings, Truth
from sapnet_pipe.pipeline.outputs import require_folder, require_new_file, require_new_folder
from sapnet_pipe.pipeline.report import Report
from sapnet_pipe.stages.flags import KeepCrowds

Store = Annotated[str, Argument(), Field(description="Bag store: a folder, or a URL such as s3://bucket/prefix.")]


class VerifyInputs(Inputs, frozen=True, extra="forbid"):
    """What `bags verify` takes."""

    bags: Store


class InspectInputs(Inputs, frozen=True, extra="forbid"):
    """What `bags inspect` takes."""

    bags: Store
    truth: Truth = None
    keep_crowds: KeepCrowds = False
    images: Path | None = Field(default=None, description="Folder of the photographs, for --draw.")
    draw: Draw = None


class MergeInputs(Inputs, frozen=True, extra="forbid"):
    """What `bags merge` takes."""

    parts: Annotated[tuple[str, ...], Argument()] = Field(description="Parts made by generate-bags --set part=K/N.")
    out: OutStore


class ImportInputs(Inputs, frozen=True, extra="forbid"):
    """What `bags import` takes."""

    masks: Annotated[Path, Argument()] = Field(
        description="SAM_results_with_point_prompt_coco.json of the SAPNet authors."
    )
    out: OutStore
    points: Path | None = Field(default=None, description="Clicks by annotation id, if the file has none.")


class ImportSettings(PlainSettings, frozen=True, extra="forbid"):
    """Settings of `bags import`; a key that is None is found by what stands in the file."""

    shard_images: int = Field(default=64, ge=1, le=100_000, description="Images per shard.")
    masks_key: str | None = Field(default=None, description="Name of an annotation's list of masks.")
    boxes_key: str | None = Field(default=None, description="Name of an annotation's list of boxes.")
    scores_key: str | None = Field(default=None, description="Name of an annotation's list of scores.")


class ExportInputs(Inputs, frozen=True, extra="forbid"):
    """What `bags export` takes."""

    bags: Store
    out: OutFile


def verify_bags(inputs: VerifyInputs) -> Report:
    """Check every byte of a store."""
    from sapnet_pipe.data.bag_store.filesystem import parse_location
    from sapnet_pipe.stages.bags.verify import verify

    report = verify(parse_location(inputs.bags), quiet=inputs.quiet)
    return Report(f"{inputs.bags} is sound", report.to_dict())


def inspect_bags(inputs: InspectInputs) -> Report:
    """Describe a store; with the truth, also how good its masks are."""
    from sapnet_pipe.data.bag_store.filesystem import parse_location
    from sapnet_pipe.data.coco.instances import read_truth
    from sapnet_pipe.stages.bags.inspect import inspect

    if inputs.draw is not None:
        _require_drawable(inputs)
    dataset = None if inputs.truth is None else read_truth(inputs.truth, keep_crowds=inputs.keep_crowds)
    result = inspect(parse_location(inputs.bags), dataset, quiet=inputs.quiet).to_dict()
    notes = [*(dataset.notes if dataset is not None else ()), *result.pop("notes")]
    if result["shards"] < result["shards_total"]:
        notes.append("this is a part of a store: bags merge joins it with the others.")
    if inputs.draw is not None and inputs.images is not None:
        from sapnet_pipe.data.bag_store.store import BagStore
        from sapnet_pipe.pipeline.pictures.strips import draw_bags

        store = BagStore.open(parse_location(inputs.bags), allow_part=True)
        notes.append(draw_bags(inputs.draw, store, inputs.images, dataset, quiet=inputs.quiet))
    return Report(f"Bag store {inputs.bags}", result, shown={}, more=bags_page(result), notes=notes)


def _require_drawable(inputs: InspectInputs) -> None:
    """Raises: UserError unless there are photographs to draw on and a new folder for the pictures."""
    if inputs.images is None:
        raise UserError("--draw", "images", str(inputs.draw), "but no photographs to draw on", "Give --images FOLDER")
    require_folder(inputs.images, "--images")
    if inputs.draw is not None:
        require_new_folder(inputs.draw, "--draw")


def merge_bags(inputs: MergeInputs) -> Report:
    """Join parts of a store; the folder `out` goes on where an interrupted merge stopped."""
    from sapnet_pipe.data.bag_store.derived import merge_stores
    from sapnet_pipe.data.bag_store.filesystem import parse_location

    parts = [parse_location(part) for part in inputs.parts]
    summary = merge_stores(parts, parse_location(inputs.out), quiet=inputs.quiet)
    return Report(f"Bags written to {inputs.out}", asdict(summary) | {"out": inputs.out}, _select(inputs.out))


def import_authors_file(inputs: ImportInputs, settings: ImportSettings) -> Report:
    """A store of the masks in the SAPNet authors' file; `out` goes on where an interrupted import stopped."""
    from sapnet_pipe.data.authors_file.convert import import_bags
    from sapnet_pipe.data.authors_file.layout import Layout
    from sapnet_pipe.data.bag_store.filesystem import parse_location
    from sapnet_pipe.data.points.reader import read_points

    done = import_bags(
        inputs.masks,
        parse_location(inputs.out),
        points=read_points(inputs.points) if inputs.points is not None else None,
        keys=Layout(settings.masks_key, settings.boxes_key, settings.scores_key),
        shard_images=settings.shard_images,
        quiet=inputs.quiet,
    )
    manifest = done.manifest
    result = {
        "out": inputs.out,
        "images": manifest.images,
        "points": manifest.points,
        "masks": manifest.masks,
        "dropped": dict(manifest.dropped),
        "layout": asdict(done.layout),
        "shards": len(manifest.shards),
        "shards_made": done.shards_made,
    }
    notes = _odd_boxes(manifest.dropped, manifest.masks)
    return Report(f"Bags of {inputs.masks} written to {inputs.out}", result, _select(inputs.out), notes)


def export_authors_file(inputs: ExportInputs) -> Report:
    """A file in the layout of the SAPNet authors' SAM masks from a store."""
    from sapnet_pipe.data.authors_file.convert import export_bags
    from sapnet_pipe.data.bag_store.filesystem import parse_location
    from sapnet_pipe.data.bag_store.store import BagStore

    out = inputs.out
    require_new_file(out)
    store = BagStore.open(parse_location(inputs.bags))
    points = export_bags(store, out, quiet=inputs.quiet)
    result = {"written": str(out), "images": store.manifest.images, "points": points, "masks": store.manifest.masks}
    return Report(f"Bags of {inputs.bags} written to {out}", result)


def _select(out: str) -> str:
    return f"sapnet-pipe select --bags {quote(out)} --images DIR --out RUN"


def _odd_boxes(dropped: Mapping[str, int], masks: int) -> list[str]:
    odd = dropped.get("boxes_that_differ", 0)
    if 100 * odd <= masks:
        return []
    return [f"{odd} of the file's boxes are not those of their masks: check its layout. The masks' own were taken."]
