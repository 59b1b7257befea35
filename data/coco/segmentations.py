"""The `segmentation` field of COCO files: polygons, uncompressed RLE, compressed RLE."""

import math
from os import PathLike
from typing import Any

from sapnet_pipe.data.coco.masks import check_counts, counts_of_polygons, counts_of_runs
from sapnet_pipe.data.errors import UserError

_FORMS = "Give a list of polygons, or an RLE {'size': [height, width], 'counts': ...}"


def segmentation_problem(segmentation: Any) -> tuple[str, Any, str, str] | None:
    """What is wrong with the structure of a `segmentation`, without looking at the image.

    Returns: None, or (subfield such as ``[0][3]``, value, problem, hint).
    """
    if isinstance(segmentation, list):
        for index, polygon in enumerate(segmentation):
            if not isinstance(polygon, list):
                return f"[{index}]", polygon, "which is not a list of coordinates", _FORMS
            if len(polygon) < 6 or len(polygon) % 2:
                problem = f"a polygon of {len(polygon)} numbers"
                return f"[{index}]", polygon, problem, "Give x1, y1, x2, y2, ... of at least three corners"
            # The type of each number and, through the sum, NaN and infinity: both at the speed of C.
            if not set(map(type, polygon)) <= {int, float} or not _finite_sum(polygon):
                place, value = _first_bad(polygon)
                return f"[{index}]{place}", value, "which is not a finite number", "Give coordinates in pixels"
        return None
    if not isinstance(segmentation, dict):
        return "", segmentation, "which is neither polygons nor RLE", _FORMS
    if not isinstance(segmentation.get("counts"), list | str | bytes):
        return ".counts", segmentation.get("counts"), "which is neither runs nor a string", _FORMS
    size = segmentation.get("size")
    if not isinstance(size, list) or len(size) != 2 or any(type(side) is not int for side in size):
        return ".size", size, "which is not [height, width]", _FORMS
    return None


def segmentation_to_counts(
    segmentation: Any, height: int, width: int, *, file: str | PathLike[str], field: str
) -> bytes:
    """Any COCO segmentation -> compressed counts of a height x width mask.

    Args:
        segmentation: List of polygons in pixels, uncompressed RLE, or compressed RLE (str or bytes).
        file, field: What to blame, for example ``annotations[3].segmentation``.
    Raises: UserError if it is malformed, or was made for an image of another size.
    """
    problem = segmentation_problem(segmentation)
    if problem:
        place, value, what, hint = problem
        raise UserError(file, field + place, value, what, hint)
    if isinstance(segmentation, list):
        return _from_polygons(segmentation, height, width, file, field)
    if segmentation["size"] != [height, width]:
        what = f"but its image is {height} high and {width} wide"
        raise UserError(file, f"{field}.size", segmentation["size"], what, "Give the mask in the image's own size")
    counts = segmentation["counts"]
    if isinstance(counts, list):
        return _from_runs(counts, height, width, file, field)
    try:
        code = counts.encode("ascii") if isinstance(counts, str) else bytes(counts)
        check_counts(code, height, width)
    except ValueError as error:
        raise UserError(file, f"{field}.counts", counts, f"not an RLE ({error})", "Write the mask again") from error
    return code


def _from_polygons(
    polygons: list[list[float]], height: int, width: int, file: str | PathLike[str], field: str
) -> bytes:
    if not polygons:
        raise UserError(file, field, polygons, "which holds no polygon", _FORMS)
    # pycocotools needs memory in proportion to the outline's length: an absurd corner would exhaust it.
    limit = 10 * max(height, width)
    for index, polygon in enumerate(polygons):
        if max(polygon) > limit or min(polygon) < -limit:
            what = f"which reaches far outside its {height} x {width} image"
            raise UserError(file, f"{field}[{index}]", polygon, what, "Give coordinates in pixels of the image")
    return counts_of_polygons(polygons, height, width)


def _from_runs(runs: list[Any], height: int, width: int, file: str | PathLike[str], field: str) -> bytes:
    for index, run in enumerate(runs):
        if type(run) is not int or run < 0:
            what = "which is not a length of a run (a whole number >= 0)"
            raise UserError(file, f"{field}.counts[{index}]", run, what, "Write the mask again")
    if sum(runs) != height * width:
        what = f"whose runs cover {sum(runs)} pixels, not {height} x {width}"
        raise UserError(file, f"{field}.counts", runs, what, "Write the mask again")
    return counts_of_runs(runs, height, width)


def _finite_sum(numbers: list[Any]) -> bool:
    try:
        return math.isfinite(sum(numbers))
    except OverflowError:  # an integer beyond the range of floats
        return False


def _first_bad(polygon: list[Any]) -> tuple[str, Any]:
    for index, value in enumerate(polygon):
        if type(value) not in (int, float) or not _finite_sum([value]):
            return f"[{index}]", value
    return "", polygon
