"""objects.parquet: how well each true object is covered, by the chosen mask and by other rules, one row per object."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.evaluation.mask_quality import ObjectOverlaps
from sapnet_pipe.data.files import atomic_path, disk_errors, reading

_OF_OBJECT = {
    "object_id": pa.int64(), "image_id": pa.int64(), "area": pa.int64(), "touching": pa.int64(), "in_group": pa.bool_(),
}  # fmt: skip
_PREFIX = "iou_"


@dataclass(frozen=True)
class ObjectTable:
    """What the file holds: the objects, with the IoU of the chosen mask, and (N,) the IoU of every rule by name."""

    objects: ObjectOverlaps
    iou: Mapping[str, NDArray[np.float64]]


def write_object_table(path: Path, compared: Mapping[str, ObjectOverlaps]) -> None:
    """Write what several rules gave for the same objects, among them ``chosen``.

    Raises: UserError if it cannot be written.
    """
    objects = compared["chosen"]
    columns = {name: pa.array(getattr(objects, name), kind) for name, kind in _OF_OBJECT.items()}
    columns |= {f"{_PREFIX}{rule}": pa.array(of.iou, pa.float64()) for rule, of in sorted(compared.items())}
    with disk_errors(path), atomic_path(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def read_object_table(path: Path) -> ObjectTable:
    """Read a file that `write_object_table` wrote. Raises: UserError if it is missing or is none."""
    with reading(path):
        content = path.read_bytes()
    try:
        table = pq.read_table(pa.BufferReader(content))
        columns = {name: np.asarray(table[name].cast(kind)) for name, kind in _OF_OBJECT.items()}
        rules = [name for name in table.column_names if name.startswith(_PREFIX)]
        iou = {name.removeprefix(_PREFIX): np.asarray(table[name].cast(pa.float64())) for name in rules}
        return ObjectTable(ObjectOverlaps(**columns, iou=iou["chosen"]), iou)
    except (pa.ArrowException, KeyError, OSError) as error:
        problem = f"not a table of objects ({type(error).__name__})"
        raise UserError(path, "content", len(content), problem, "Run the selection again") from error
