"""`sapnet-pipe bags merge|import|export`: stores joined, and bags carried in and out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote

from sapnet_pipe.data.authors_file.convert import export_bags, import_bags
from sapnet_pipe.data.authors_file.layout import Layout
from sapnet_pipe.data.bag_store.filesystem import parse_location
from sapnet_pipe.data.bag_store.merge import merge_stores
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.points.reader import read_points
from sapnet_pipe.pipeline.command_settings import ImportSettings, PlainSettings
from sapnet_pipe.pipeline.outputs import require_new_file
from sapnet_pipe.pipeline.report import Report
from sapnet_pipe.pipeline.settings import resolve_settings


def merge_bags(
    parts: Sequence[str],
    out: str,
    *,
    device: str | None = None,
    seed: int | None = None,
    file: Path | None = None,
    assign: Sequence[str] = (),
    quiet: bool = False,
) -> Report:
    """Join parts of a store; the folder `out` goes on where an interrupted merge stopped."""
    resolve_settings(PlainSettings, file=file, assignments=assign, flags={"device": device, "seed": seed})
    summary = merge_stores([parse_location(part) for part in parts], parse_location(out), quiet=quiet)
    following = f"sapnet-pipe select --bags {quote(out)} --images DIR --out RUN"
    return Report(f"Bags written to {out}", asdict(summary) | {"out": out}, following)


def import_authors_file(
    path: Path,
    out: str,
    *,
    points: Path | None = None,
    device: str | None = None,
    seed: int | None = None,
    file: Path | None = None,
    assign: Sequence[str] = (),
    quiet: bool = False,
) -> Report:
    """A store of the masks in the SAPNet authors' file; `out` goes on where an interrupted import stopped."""
    flags = {"device": device, "seed": seed}
    settings = resolve_settings(ImportSettings, file=file, assignments=assign, flags=flags)
    done = import_bags(
        path,
        parse_location(out),
        points=read_points(points) if points is not None else None,
        keys=Layout(settings.masks_key, settings.boxes_key, settings.scores_key),
        shard_images=settings.shard_images,
        quiet=quiet,
    )
    manifest = done.manifest
    result = {
        "out": out,
        "images": manifest.images,
        "points": manifest.points,
        "masks": manifest.masks,
        "dropped": dict(manifest.dropped),
        "layout": asdict(done.layout),
        "shards": len(manifest.shards),
        "shards_made": done.shards_made,
    }
    following = f"sapnet-pipe select --bags {quote(out)} --images DIR --out RUN"
    return Report(f"Bags of {path} written to {out}", result, following, _odd_boxes(manifest.dropped, manifest.masks))


def export_authors_file(
    bags: str,
    out: Path,
    *,
    device: str | None = None,
    seed: int | None = None,
    file: Path | None = None,
    assign: Sequence[str] = (),
    quiet: bool = False,
) -> Report:
    """A file in the layout of the SAPNet authors' SAM masks from a store."""
    resolve_settings(PlainSettings, file=file, assignments=assign, flags={"device": device, "seed": seed})
    require_new_file(out)
    store = BagStore.open(parse_location(bags))
    points = export_bags(store, out, quiet=quiet)
    result = {"written": str(out), "images": store.manifest.images, "points": points, "masks": store.manifest.masks}
    return Report(f"Bags of {bags} written to {out}", result)


def _odd_boxes(dropped: Mapping[str, int], masks: int) -> list[str]:
    odd = dropped.get("boxes_that_differ", 0)
    if 100 * odd <= masks:
        return []
    return [f"{odd} of the file's boxes are not those of their masks: check its layout. The masks' own were taken."]
