"""Marks on the fields of settings models: which of them have a flag of their own on the command line."""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from sapnet_pipe.data.pixel_depth import Depth


@dataclass(frozen=True)
class Flag:
    """A field's flag. Type, choices, default and help are the field's.

    Attributes:
        name: As it is typed, ``--set``, or with its opposite, ``--fast/--exact``; if empty, after the field's name:
            ``val_labels`` is ``--val-labels``.
        metavar: What its help shows for the value, in place of the type or the choices.
        hidden: Accepted, so that a script can pass the same options to all commands, but without effect in this one,
            and not in its help.
    """

    name: str = ""
    metavar: str = ""
    hidden: bool = False


FLAG = Flag()
"""The flag that is named after the field."""


def _device_name(name: str) -> str:
    """Whether there is such a device, torch has to tell, which is imported later."""
    if not re.fullmatch(r"auto|(cpu|cuda|mps)(:\d+)?", name):
        raise ValueError("not a device: use auto, cpu, cuda, cuda:N or mps")
    return name


def _depth(text: str) -> str:
    return str(Depth.parse(text))


DepthText = Annotated[str, AfterValidator(_depth)]
DEPTH_FLAG = Flag(metavar="auto|full|percentile|MIN:MAX")
Device = Annotated[str, FLAG, Field(description="auto, cpu, cuda, cuda:N or mps."), AfterValidator(_device_name)]
MaxFailureRate = Annotated[
    float, FLAG, Field(ge=0, le=1, description="Share of the photographs that may be unreadable before the run stops.")
]
MAX_SEED = 10**13  # trainings multiply it by a million, and torch takes 64 bits
Seed = Annotated[int, FLAG, Field(ge=0, le=MAX_SEED, description="Seed of all random draws.")]
UnusedDevice = Annotated[
    str,
    Flag(hidden=True),
    Field(description="Accepted by every command; this one has no network."),
    AfterValidator(_device_name),
]
UnusedSeed = Annotated[
    int,
    Flag(hidden=True),
    Field(ge=0, le=MAX_SEED, description="Accepted by every command; this one draws nothing at random."),
]
KeepCrowds = Annotated[
    bool,
    FLAG,
    Field(description="Take annotations with iscrowd 1 for single objects, as exports of brushes mean them."),
]
