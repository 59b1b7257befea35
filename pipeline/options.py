"""The options that commands share: the same flag has the same name and help everywhere."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sapnet_pipe.data.errors import UserError


def result(option: str, text: str) -> Any:
    """An option for the path of a result, with the help `text`.

    Bag stores alone may lie behind a URL; for anything else it is refused, since as a path it would make a folder here.
    """

    def parse(given: str) -> Path:
        if "://" in given:
            raise UserError(
                option, "path", given, "a URL, where only bag stores can lie", "Name a path on this machine"
            )
        return Path(given)

    return typer.Option(option, help=text, show_default=False, parser=parse, metavar="<path>")


Config = Annotated[Path | None, typer.Option("--config", help="TOML file of settings.", show_default=False)]
Assign = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, e.g. train.lr=0.01; may be repeated."),
]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.", show_default="auto")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of all random draws.", show_default="0")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON line at the end.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars and no summary.")]
Frozen = Annotated[bool, typer.Option("--frozen", help="Screening: features once, then the heads alone, in seconds.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run in the same folder.")]
Images = Annotated[Path, typer.Option("--images", help="Folder of the photographs.", show_default=False)]
Truth = Annotated[
    Path | None,
    typer.Option("--truth", help="COCO instances with true masks, for measuring only.", show_default=False),
]
Out = Annotated[Path, result("--out", "Folder of the result; must be new.")]
# A store may lie where only a URL leads, and a URL is no path.
Store = Annotated[
    str, typer.Option("--out", help="Folder or URL (s3://...) of the bag store; must be new.", show_default=False)
]
Bags = Annotated[
    str, typer.Option("--bags", help="Bag store of stage one: a folder or URL (s3://...).", show_default=False)
]
OutFile = Annotated[Path, result("--out", "File of the result; must not exist yet.")]
