"""What one rule of depth means for all photographs of a set, decided and told before the first is scaled."""

from collections.abc import Iterable
from pathlib import Path

from sapnet_pipe.data.errors import FaultReport, UserError, mended
from sapnet_pipe.data.images import deep_pixels
from sapnet_pipe.data.pixel_depth import Depth
from sapnet_pipe.data.pixel_scaling import ValuesInUse, completed, cuts
from sapnet_pipe.data.progress import progress_bar

_CUT = 0.01  # share of the pixels

_DEEP = mended("photographs-of-more-than-8-bits", "photographs have more than 8 bits a channel", "")
_MISSING = mended(
    "pixels-missing",
    "photographs have pixels that are no number (NaN, infinite)",
    "These are read as black, and count for no percentile",
)
_BEYOND = mended(
    "pixels-beyond-the-depth",
    "photographs have over a hundredth of their pixels beyond the depth of the set",
    "These are read as black or white: give another --depth if they matter",
)


def depth_of_set(
    paths: Iterable[Path], depth: Depth, report: FaultReport, *, decide_auto: bool = True, quiet: bool = True
) -> Depth:
    """The rule for a set of photographs: `depth` itself, or what ``auto`` comes to for them.

    Only photographs of more than 8 bits a channel are decoded. Those that cannot be read are passed over.

    Args:
        report: Is told how many of them there are and by which rule they are scaled, and what is lost by it.
        decide_auto: False leaves what ``auto`` has not decided to each photograph, as stores of earlier versions do.
    Returns: A plain ``auto`` if no photograph has more than 8 bits a channel.
    """
    found: dict[Path, ValuesInUse] = {}
    beyond = list[Path]()
    for path in progress_bar(list(paths), desc="looking for deep pixels", unit="img", quiet=quiet, leave=False):
        try:
            pixels = deep_pixels(path)
        except UserError:
            continue
        if pixels is not None:
            found[path] = ValuesInUse.of(pixels)
            if cuts(pixels, depth, _CUT):
                beyond.append(path)
    if not found:
        return Depth()
    taken = completed(depth, found.values()) if decide_auto else depth
    kind = mended(_DEEP.name, _DEEP.problem, f"They are scaled by --depth {taken}: {taken.about}")
    for path, values in found.items():
        report(kind, "file_name", str(path), f"which is scaled by --depth {taken}: {taken.about}")
        if values.missing:
            report(_MISSING, "file_name", str(path), "which has pixels that are no number")
    for path in beyond:
        report(_BEYOND, "file_name", str(path), f"which has pixels beyond --depth {taken}")
    return taken
