"""The arithmetic of `data.pixel_depth`: numbers of any type to 8 bits, and what ``auto`` comes to for a set of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.pixel_depth import Depth, Span

_NARROW = 2  # bytes
_PERCENTILES = (0.1, 99.9)


def to_8_bits(pixels: NDArray[Any], depth: Depth) -> NDArray[np.uint8]:
    """Scale the pixels of one photograph of any numeric type, all channels alike; the shape stays."""
    if pixels.dtype == np.uint16 and depth.rule != "percentile" and pixels.size > 1 << 16:
        whole = Depth("auto", None, _bits_for(pixels, depth)) if _keeps_bits(pixels, depth) else depth
        return to_8_bits(np.arange(1 << 16, dtype=np.uint16), whole)[pixels]  # a table takes a tenth of the memory
    if _keeps_bits(pixels, depth):
        kept = pixels >> np.asarray(_bits_for(pixels, depth) - 8).astype(pixels.dtype)
        return np.minimum(kept, 255).astype(np.uint8)
    low, high = _ends(pixels, depth)
    if high <= low:
        return np.zeros(pixels.shape, np.uint8)
    missing = ~np.isfinite(pixels)
    shares = (np.where(missing, low, pixels).astype(np.float64) - low) / (high - low)
    return np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)


def cuts(pixels: NDArray[Any], depth: Depth, share: float) -> bool:
    """Whether more than this share of the numbers lies beyond the ends, of a rule whose ends are stated."""
    if _keeps_bits(pixels, depth):
        bits = _decided_bits(pixels.dtype, depth)
        return bits is not None and float((pixels >> np.asarray(bits).astype(pixels.dtype) > 0).mean()) > share
    if depth.span is None:
        return False
    outside = (pixels < depth.span[0]) | (pixels > depth.span[1])
    return float((outside & np.isfinite(pixels)).mean()) > share


def _keeps_bits(pixels: NDArray[Any], depth: Depth) -> bool:
    if depth.rule != "auto" or pixels.dtype.kind not in "iu":
        return False
    return pixels.dtype.kind == "u" or (depth.span is None and pixels.min(initial=0) >= 0)


def _decided_bits(kind: np.dtype[Any], depth: Depth) -> int | None:
    return depth.wide_bits if kind.itemsize > _NARROW else depth.bits


def _bits_for(pixels: NDArray[Any], depth: Depth) -> int:
    return _decided_bits(pixels.dtype, depth) or bits_in_use(int(pixels.max(initial=0)))


def _ends(pixels: NDArray[Any], depth: Depth) -> Span:
    if depth.span is not None:
        return depth.span
    if depth.rule == "full":
        return (0.0, 1.0) if pixels.dtype.kind == "f" else _ends_of_type(pixels.dtype)
    if depth.rule == "auto" and ValuesInUse.of(pixels).is_unit:
        return 0.0, 1.0
    return _percentiles(pixels if pixels.dtype.kind in "iu" else pixels[np.isfinite(pixels)])


@dataclass(frozen=True)
class ValuesInUse:
    """What a photograph's pixels are, as far as the decision for its set needs it.

    Attributes:
        kind: u, i or f: whole numbers, whole numbers with a sign, floats. wide: Of more than 16 bits.
        low, high: Of all numbers. percentiles: The 0.1st and the 99.9th, unless the kind is u. 0 where there is none.
        missing: Whether some are no number.
    """

    kind: str
    wide: bool
    low: float
    high: float
    percentiles: Span
    missing: bool

    @classmethod
    def of(cls, pixels: NDArray[Any]) -> "ValuesInUse":
        """Of one photograph."""
        kind, wide = pixels.dtype.kind, pixels.dtype.itemsize > _NARROW
        known = pixels if pixels.dtype.kind in "iu" else pixels[np.isfinite(pixels)]
        if not known.size:
            return cls(kind, wide, 0.0, 0.0, (0.0, 0.0), bool(pixels.size))
        ends = known.min().item(), known.max().item()
        percentiles = ends if kind == "u" else _percentiles(known)
        return cls(kind, wide, *ends, percentiles, known.size < pixels.size)

    @property
    def is_unit(self) -> bool:
        """Whether all numbers lie between 0 and 1, as programs write floats."""
        return self.kind == "f" and self.low >= 0 and self.high <= 1


def decide(values: Iterable[ValuesInUse]) -> Depth:
    """``auto`` for a set; for no photograph at all it stays undecided."""
    found = list(values)
    negative = any(one.kind == "f" or one.low < 0 for one in found)
    measured = [one for one in found if one.kind == "f" or (one.kind == "i" and negative)]
    counted = [one for one in found if one.kind == "u" or (one.kind == "i" and not negative)]
    bits, wide = (_bits_of([one for one in counted if one.wide is wide]) for wide in (False, True))
    if not measured:
        return Depth("auto", None, bits, wide)
    if all(one.is_unit for one in measured):
        return Depth("auto", (0.0, 1.0), bits, wide)
    low = _short(min(one.percentiles[0] for one in measured))
    high = _short(max(one.percentiles[1] for one in measured))
    return Depth("auto", (low, high) if low < high else None, bits, wide)


def completed(depth: Depth, values: Iterable[ValuesInUse]) -> Depth:
    """The rule with what an ``auto`` leaves open, such as the floats of a set of whole numbers, decided for a set."""
    if depth.rule != "auto":
        return depth
    found = decide(values)
    bits, wide = depth.bits or found.bits, depth.wide_bits or found.wide_bits
    return Depth("auto", depth.span or found.span, bits, wide)


def _bits_of(values: list[ValuesInUse]) -> int | None:
    return bits_in_use(int(max(one.high for one in values))) if values else None


def _percentiles(known: NDArray[Any]) -> Span:
    if not known.size:
        return 0.0, 0.0
    low, high = np.percentile(known, _PERCENTILES).tolist()
    return float(low), float(high)


def bits_in_use(largest: int) -> int:
    """8, 10, 12, 14, 16 and so on: cameras of 12 bits fill the lower ones of 16."""
    used = largest.bit_length()
    return max(used + used % 2, 8)


def _ends_of_type(kind: np.dtype[Any]) -> Span:
    return float(np.iinfo(kind).min), float(np.iinfo(kind).max)


def _short(value: float) -> float:
    """Nine digits: all that a float32 holds."""
    return float(f"{value:.9g}")
