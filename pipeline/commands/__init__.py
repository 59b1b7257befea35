"""The commands, a file each: what it takes (a model of inputs, a model of settings), and the function that does it.

At the top these files import only what needs neither torch, OpenCV, PyArrow nor NumPy, which take seconds, or are what
`doctor` finds broken; the functions import the rest. A new command is a file here and a line in `COMMANDS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

_AGAIN = "Run the same command again: what is finished is kept."
_RESUME = "Run the same command again with --resume to go on from the last checkpoint."


@dataclass(frozen=True)
class Entry:
    """A command: its function in a module of this folder, its help, and how to go on after an interruption."""

    function: str
    help: str
    after_interruption: str = "Nothing was written: run the same command again."

    def load(self) -> Callable[..., Any]:
        """The function; its module and models are imported now."""
        module, _, name = self.function.partition(":")
        return getattr(import_module(f"{__name__}.{module}"), name)


COMMANDS = {
    "points": Entry(
        "points:make_points",
        "Points from a mask-annotated set, or of another tool, as COCO JSON, whole or split in two.",
    ),
    "generate-bags": Entry(
        "generate_bags:generate_bags",
        "Stage one: a bag of candidate masks for every point. Run it again to go on after an interruption.",
        "Run the same command again: what is finished is kept, to the last photograph.",
    ),
    "select": Entry(
        "select:select",
        "Stage two: learn from the categories which mask of each bag is the object, and write pseudo labels.",
        _RESUME,
    ),
    "train-seg": Entry("train_seg:train_seg", "Stage three: train SOLOv2 on the labels.", _RESUME),
    "predict": Entry("predict:predict", "Segment photographs with a trained model."),
    "evaluate": Entry("evaluate:evaluate", "Measure pseudo labels or predictions against true masks or clicks."),
    "count": Entry(
        "count:count", "Count the objects of predictions: a CSV of numbers and areas per photograph and class."
    ),
    "export": Entry("export:export", "Write labels or predictions in the form of another tool, and say what is lost."),
    "demo": Entry(
        "demo:demo",
        "The whole job on rendered scenes: three stages, a table and pictures, in minutes on two cores.",
        "The demo does not go on where it stopped: remove its folder, or run it again with another --out.",
    ),
    "ablate": Entry(
        "ablate:ablate",
        "Train variants of the selector over one bag store and compare them. Run it again to go on.",
        "Run the same command again: trainings that are finished are kept, and the others go on.",
    ),
    "report": Entry(
        "ablate:report", "Make the tables of an ablation again from its finished runs; nothing is trained."
    ),
    "doctor": Entry(
        "doctor:doctor",
        "Is this machine fit, are these files sound, how long will it take? Exits with 2 if something is wrong.",
    ),
    "settings": Entry("settings:settings", "List every setting of a command: its type, default and meaning."),
    "bags verify": Entry(
        "bags:verify_bags", "Check checksums, schema, counts, and every mask against its box and area.", _AGAIN
    ),
    "bags inspect": Entry(
        "bags:inspect_bags",
        "Counts, sizes and scores; with --truth also how good the best, the top-1 and every fixed choice are.",
        _AGAIN,
    ),
    "bags merge": Entry(
        "bags:merge_bags",
        "Join the parts of a store that were made apart. Run it again to go on after an interruption.",
        _AGAIN,
    ),
    "bags import": Entry(
        "bags:import_authors_file",
        "Make a bag store of the authors' file of SAM masks. Run it again to go on after an interruption.",
        _AGAIN,
    ),
    "bags export": Entry(
        "bags:export_authors_file", "Write a bag store as the authors' file of SAM masks, for their code.", _AGAIN
    ),
}
GROUPS = {"bags": "Check, describe, join, import and export bag stores."}
