"""`sapnet-pipe doctor`: is this machine fit, are these files sound, how long will stage one take?"""

from pathlib import Path

from pydantic import Field

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.inputs import Draw, Inputs
from sapnet_pipe.pipeline.outputs import require_new_folder
from sapnet_pipe.pipeline.report import Report
from sapnet_pipe.stages.bags.config import SamConfig
from sapnet_pipe.stages.flags import Device, Seed


class DoctorInputs(Inputs, frozen=True, extra="forbid"):
    """What `doctor` takes; all of it may be left out."""

    images: Path | None = Field(default=None, description="Folder of the photographs.")
    points: Path | None = Field(default=None, description="Points in any form, to be checked.")
    labels: Path | None = Field(default=None, description="COCO instances or pseudo labels, to be checked.")
    draw: Draw = None


class DoctorSettings(SamConfig, frozen=True, extra="forbid"):
    """What stage one is to be estimated for, and how closely photographs are looked at."""

    device: Device = Field(
        default="auto", description="Whose speed the estimate takes: auto, cpu, cuda, cuda:N or mps."
    )
    seed: Seed = Field(default=0, description="Accepted by every command; this one draws nothing at random.")
    decode: int = Field(default=500, ge=0, description="Photographs of a file that are decoded; the others are opened.")


def doctor(inputs: DoctorInputs, settings: DoctorSettings) -> Report:
    """Look at everything, and end with exit code 2 if something has to be fixed."""
    from sapnet_pipe.pipeline.doctor.page import ending, page_of
    from sapnet_pipe.pipeline.doctor.run import examine

    if inputs.draw is not None:
        require_new_folder(inputs.draw, "--draw")
    found = examine(
        points=inputs.points,
        images=inputs.images,
        labels=inputs.labels,
        sam=settings.sam,
        checkpoint=settings.checkpoint,
        recipe=settings.recipe,
        device=settings.device,
        decode=settings.decode,
        quiet=inputs.quiet,
    )
    return Report(
        page_of(found),
        found.to_dict(),
        shown={},
        notes=() if inputs.draw is None else [_draw(inputs)],
        exit_code=2 if found.errors else 0,
        urgent=list(ending(found.errors)) if found.errors else (),
    )


def _draw(inputs: DoctorInputs) -> str:
    """Draw the clicks; a line that says where they are, or why there are no pictures."""
    if inputs.draw is None or inputs.points is None or inputs.images is None:
        return "--draw shows clicks: give --points and --images with it."
    from sapnet_pipe.data.points.reader import read_points
    from sapnet_pipe.pipeline.pictures.strips import draw_clicks

    try:
        return draw_clicks(inputs.draw, read_points(inputs.points, inputs.images), inputs.images, quiet=inputs.quiet)
    except UserError as error:
        return f"nothing is drawn: {error}"
