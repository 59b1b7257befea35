"""The rule by which photographs of more than 8 bits a channel become 8-bit: one for all photographs of a set.

A photograph of 8 bits is never scaled. For the others `depth` says which of their values become 0 and 255:

- ``MIN:MAX``: these two, for example ``0:4095``.
- ``full``: the ends of the pixels' type: 0 and 65535 of 16 bits; -32768 and 32767 of signed ones; 0 and 1 of floats.
- ``percentile``: the 0.1st and the 99.9th percentile of each photograph, over all its channels. It is the only one by
  which a dark photograph comes out as bright as its neighbours.
- ``auto``: of whole numbers the highest 8 of the bits in use (8, 10, 12, 14, 16, ... of the largest value). Floats, and
  whole numbers some of which are negative: 0 and 1 where all values lie between them, else percentiles as above.

``auto`` is decided once for a set, by `data.depth_of_set`, so that a dark photograph stays darker than its neighbours:
the bits of the largest value of all photographs (of types of 16 bits and of wider ones apart), the lowest 0.1st and the
highest 99.9th percentile of them. What was decided is written ``auto:12bit``, ``auto:wide32bit`` (of wider types),
``auto:0..1`` (of floats and negative numbers) or with all three, in the store, the labels and the model.
Photographs that belong to no set are scaled each by its own bits or percentiles.

Values beyond the ends become what the nearer end does. Values that are no number (NaN, infinite) are missing: they
become 0 and count for no percentile.
"""

import math
import re
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal

from sapnet_pipe.data.errors import UserError

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
_DECIDED = re.compile(
    rf"auto(?::(?P<bits>\d+)bit)?(?::wide(?P<wide>\d+)bit)?(?::(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER}))?"
)
_HINT = "Give auto, full, percentile or MIN:MAX, such as 0:4095"

Span = tuple[float, float]


@dataclass(frozen=True)
class Depth:
    """The rule, and of ``auto`` what was decided for the set.

    Attributes:
        span: MIN and MAX; of ``auto`` those of the floats, or None where each photograph has its own.
        bits: In use by the whole numbers of the set, for ``auto``; None where each photograph has its own.
        wide_bits: The same of types of more than 16 bits.
    """

    rule: Literal["auto", "full", "percentile", "range"] = "auto"
    span: Span | None = None
    bits: int | None = None
    wide_bits: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Depth":
        """Read the text that `str` writes. Raises: ValueError that says what is wrong with it."""
        if text in ("full", "percentile"):
            return cls("full" if text == "full" else "percentile")
        if decided := _DECIDED.fullmatch(text):
            span = None if decided["low"] is None else _checked_span(decided["low"], decided["high"])
            return cls("auto", span, _checked_bits(decided["bits"], 16), _checked_bits(decided["wide"], 64))
        low, colon, high = text.partition(":")
        if not colon:
            raise ValueError("not a depth: use auto, full, percentile or MIN:MAX, such as 0:4095")
        return cls("range", _checked_span(low, high))

    @classmethod
    def recorded(cls, value: Any, file: str | PathLike[str], field: str) -> "Depth":
        """What a file of ours holds; None stands for ``auto``. Raises: UserError naming the file."""
        try:
            return cls() if value is None else cls.parse(value if isinstance(value, str) else repr(value))
        except ValueError as error:
            raise UserError(file, field, value, str(error), _HINT) from error

    def __str__(self) -> str:
        """As it is typed, and recorded."""
        if self.rule == "range" and self.span is not None:
            return ":".join(map(_written, self.span))
        if self.rule != "auto":
            return self.rule
        bits = "" if self.bits is None else f":{self.bits}bit"
        wide = "" if self.wide_bits is None else f":wide{self.wide_bits}bit"
        return f"auto{bits}{wide}" + ("" if self.span is None else f":{'..'.join(map(_written, self.span))}")

    @property
    def is_decided(self) -> bool:
        """Whether nothing of it is left to the photographs of a set: false of a plain ``auto``."""
        return self != Depth()

    @property
    def about(self) -> str:
        """What becomes 0 and 255, for people."""
        if self.rule == "range" and self.span is not None:
            return "{} becomes 0 and {} becomes 255".format(*map(_written, self.span))
        if self.rule == "full":
            return "the whole range of their type becomes 0 to 255"
        if self.rule == "percentile":
            return "in each photograph the 0.1st percentile becomes 0 and the 99.9th 255, however dark it is"
        if not self.is_decided:
            return "each by the bits that it uses, floats by 0 to 1 or their percentiles"
        all_bits = (self.bits, ""), (self.wide_bits, " of wider types")
        kept = [f"of the {bits} bits in use{of} the highest 8 are kept" for bits, of in all_bits if bits]
        span = ["of floats {} becomes 0 and {} becomes 255".format(*map(_written, self.span))] if self.span else []
        return ", ".join(kept + span)


AUTO = Depth()
"""Of photographs that belong to no set."""


def _checked_span(low: str, high: str) -> Span:
    try:
        ends = float(low), float(high)
    except ValueError:
        raise ValueError("whose ends are not numbers: write MIN:MAX, such as 0:4095") from None
    if not all(map(math.isfinite, ends)) or not ends[0] < ends[1]:
        raise ValueError("whose MIN is not below its MAX: write for example 0:4095")
    return ends


def _checked_bits(text: str | None, most: int) -> int | None:
    if text is not None and int(text) not in range(8, most + 1):
        raise ValueError(f"{text} bits are not from 8 to {most}")
    return None if text is None else int(text)


def _written(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
