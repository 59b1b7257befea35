"""`sapnet-pipe demo`: the whole job on rendered scenes."""

from pathlib import Path

from pydantic import Field

from sapnet_pipe.pipeline.demo.settings import DemoSettings
from sapnet_pipe.pipeline.inputs import Inputs, LocalPath
from sapnet_pipe.pipeline.report import Report


class DemoInputs(Inputs, frozen=True, extra="forbid"):
    """What `demo` takes."""

    out: LocalPath = Field(default=Path("runs/demo"), description="Folder of the demo; must be new.")


def demo(inputs: DemoInputs, settings: DemoSettings) -> Report:
    """Run it in a new folder; see `pipeline.demo.run`."""
    from sapnet_pipe.pipeline.demo.run import run_demo

    return run_demo(inputs.out, settings, quiet=inputs.quiet)
