"""What the commands share: kinds of inputs (folders, files, stores), and the flags that every one of them has.

A command declares two models. Its *inputs* are paths and switches, which are typed each time. Its *settings* decide
the result; they come from defaults, a preset, a file, ``--set`` and flags. Every field of the inputs is a flag; of the
settings, those that are marked (`stages.flags`). `pipeline.command` makes the command line of both.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.settings_table import named_flag
from sapnet_pipe.stages.flags import Flag, UnusedDevice, UnusedSeed


class Inputs(BaseModel, frozen=True, extra="forbid"):
    """The inputs of every command; a command's own are the fields of a subclass."""

    config: Path | None = Field(default=None, description="TOML file of settings.")
    assign: Annotated[tuple[str, ...], Flag("--set", metavar="KEY=VALUE")] = Field(
        default=(),
        description="Any setting that `sapnet-pipe settings COMMAND` lists; may be repeated.",
    )
    as_json: Annotated[bool, Flag("--json")] = Field(
        default=False, description="Print the result as one JSON line at the end."
    )
    quiet: bool = Field(
        default=False, description="No progress, summary or notes (--json has them all); what is wrong still shows."
    )


class PlainSettings(BaseModel, frozen=True, extra="forbid"):
    """The settings of every command, so that a script can pass the same options to all of them.

    Both are hidden and do nothing: a command that has a use for one declares it anew.
    """

    device: UnusedDevice = "auto"
    seed: UnusedSeed = 0


@dataclass(frozen=True)
class Argument:
    """Marks an input that is given by its place, without a flag."""


def _refuse_url(value: Any, info: ValidationInfo) -> Any:
    """Bag stores alone may lie behind a URL: as the path of anything else it would make a folder here."""
    if "\0" in str(value):
        raise UserError(named_flag(str(info.field_name)), "path", value, "which holds a null byte", "Correct the path")
    if "://" in str(value):
        option = named_flag(str(info.field_name))
        raise UserError(option, "path", value, "a URL, where only bag stores can lie", "Name a path on this machine")
    return value


LocalPath = Annotated[Path, BeforeValidator(_refuse_url)]
OutFolder = Annotated[LocalPath, Field(description="Folder of the result: new, or with --resume that of the run.")]
OutFile = Annotated[LocalPath, Field(description="File of the result; must not exist yet.")]
OutStore = Annotated[
    str, Field(description="Folder or URL (s3://...) of the bag store: new, or of an interrupted run.")
]
BagStore = Annotated[str, Field(description="Bag store of stage one: a folder or URL (s3://...).")]
Points = Annotated[Path, Field(description="Points of any tool: a file, or a folder of files (docs/points.md).")]
PointsFormat = Annotated[
    str | None, Field(description="Form of the points, if it is not to be told by their content (docs/points.md).")
]
OneCategory = Annotated[str | None, Field(description="Category of points for which their file names none.")]
Images = Annotated[Path, Field(description="Folder of the photographs.")]
Truth = Annotated[Path | None, Field(description="COCO instances with true masks, for measuring only.")]
ValLabels = Annotated[Path | None, Field(description="COCO instances to evaluate on.")]
ValImages = Annotated[Path | None, Field(description="Folder of their images.")]
Draw = Annotated[LocalPath | None, Field(description="New folder for pictures of some of the photographs.")]
Resume = Annotated[bool, Field(description="Go on with an interrupted run in the same folder.")]
