"""`sapnet-pipe doctor`: is this machine fit, are these files sound, how long will stage one take?"""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from pydantic import Field

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.inputs import Draw, Inputs, LocalPath, OneCategory, PointsFormat
from sapnet_pipe.pipeline.outputs import require_new_file, require_new_folder
from sapnet_pipe.pipeline.report import Report
from sapnet_pipe.stages.bags.config import SamConfig
from sapnet_pipe.stages.flags import Device, UnusedSeed

if TYPE_CHECKING:
    from sapnet_pipe.data.checks.findings import Finding


class DoctorInputs(Inputs, frozen=True, extra="forbid"):
    """What `doctor` takes; all of it may be left out."""

    images: Path | None = Field(default=None, description="Folder of the photographs.")
    points: Path | None = Field(default=None, description="Points of any tool, to be checked.")
    points_format: PointsFormat = None
    category: OneCategory = None
    labels: Path | None = Field(default=None, description="COCO instances or pseudo labels, to be checked.")
    draw: Draw = None
    write_fixed: LocalPath | None = Field(
        default=None, description="New file for the points, as COCO JSON, with all that can be put right put right."
    )


class DoctorSettings(SamConfig, frozen=True, extra="forbid"):
    """What stage one is to be estimated for, and how closely photographs are looked at."""

    device: Device = Field(
        default="auto", description="Whose speed the estimate takes: auto, cpu, cuda, cuda:N or mps."
    )
    seed: UnusedSeed = 0
    decode: int = Field(
        default=500,
        ge=0,
        le=1_000_000_000,
        description="Photographs of a file that are decoded; the others are opened.",
    )


def doctor(inputs: DoctorInputs, settings: DoctorSettings) -> Report:
    """Look at everything, and end with exit code 2 if something has to be fixed."""
    from sapnet_pipe.pipeline.doctor.page import ending, page_of
    from sapnet_pipe.pipeline.doctor.run import examine

    if inputs.draw is not None:
        require_new_folder(inputs.draw, "--draw")
    if inputs.write_fixed is not None:
        if inputs.points is None:
            raise UserError("--write-fixed", "path", str(inputs.write_fixed), "but no points to fix", "Give --points")
        require_new_file(inputs.write_fixed, "--write-fixed")
    found = examine(
        points=inputs.points,
        points_format=inputs.points_format,
        category=inputs.category,
        images=inputs.images,
        labels=inputs.labels,
        sam=settings.sam,
        checkpoint=settings.checkpoint,
        recipe=settings.recipe,
        device=settings.device,
        decode=settings.decode,
        quiet=inputs.quiet,
    )
    errors, notes, following = found.errors, list[str](), None
    if inputs.points is not None and inputs.write_fixed is not None:
        errors, notes = _fix(inputs.points, inputs.write_fixed, inputs, settings, found.errors)
        where = "DIR" if inputs.images is None else quote(str(inputs.images))
        points = quote(str(inputs.write_fixed))
        following = None if errors else f"sapnet-pipe generate-bags --images {where} --points {points} --out BAGS"
    fixed = {} if inputs.write_fixed is None else {"fixed": {"ok": not errors, "notes": notes}}
    return Report(
        page_of(found),
        found.to_dict() | fixed,
        following,
        shown={},
        notes=[*notes, *([] if inputs.draw is None else [_draw(inputs)])],
        exit_code=2 if errors else 0,
        urgent=list(ending(errors)) if errors else (),
    )


def _fix(
    points: Path, out: Path, inputs: DoctorInputs, settings: DoctorSettings, errors: "list[Finding]"
) -> "tuple[list[Finding], list[str]]":
    """Write the points anew. Returns: the errors that are left, and lines on what was done."""
    from sapnet_pipe.data.checks.findings import Findings
    from sapnet_pipe.data.checks.mending import mend_points
    from sapnet_pipe.data.checks.preflight import check_points
    from sapnet_pipe.data.points.reader import write_points

    try:
        fixed = mend_points(points, inputs.images, form=inputs.points_format, category=inputs.category)
    except UserError as error:
        return errors, [f"{out} is not written: {error}"]
    write_points(out, fixed)
    left = Findings()
    check_points(out, inputs.images, left, decode=settings.decode, quiet=inputs.quiet)
    remaining = [*(error for error in errors if error.file != str(points)), *left.errors()]
    rest = f"; to fix still: {'; '.join(f'{e.count} {e.kind.problem}' for e in remaining)}" if remaining else ""
    dropped = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in fixed.dropped.items() if count)
    left_out = f" ({dropped})" if dropped else ""
    return remaining, [*fixed.notes, f"{len(fixed)} points are written to {out}{left_out}{rest}."]


def _draw(inputs: DoctorInputs) -> str:
    """Draw the clicks; a line that says where they are, or why there are no pictures."""
    if inputs.draw is None or inputs.points is None or inputs.images is None:
        return "--draw shows clicks: give --points and --images with it."
    from sapnet_pipe.data.points.reader import read_points
    from sapnet_pipe.pipeline.pictures.strips import draw_clicks

    try:
        found = read_points(inputs.points, inputs.images, form=inputs.points_format, category=inputs.category)
        return draw_clicks(inputs.draw, found, inputs.images, quiet=inputs.quiet)
    except UserError as error:
        return f"nothing is drawn: {error}"
