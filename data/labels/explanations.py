"""explain.parquet: why each mask was chosen, one row per point, the masks' scores as lists in the order of the bag.

A list is null where the method has no such step. Boxes are XYXY in original pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sapnet_pipe.data.files import atomic_path, disk_errors

# Boxes too are lists of any length: pyarrow 16 to 25 do not read a null among lists of a fixed one.
_SCORES = _BOX = pa.list_(pa.float32())
_ROWS_PER_GROUP = 4096


def _column(kind: pa.DataType) -> Mapping[str, Any]:
    """Metadata of a field that is a column of the file."""
    return {"kind": kind}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The mask selected for each of N points, and why; their bags hold T masks in all.

    A field with a `_column` is one of explain.parquet, in this order: a new reason is a field here and whoever
    computes it. None, a NaN, and a negative index or rule are written as null.

    Attributes:
        sizes: (N,) masks of each bag, which sum to T. alternates: (N, 3) masks for multi-mask supervision (MPS), -1
            where the bag has no more.
        image_id, point_id, category_id: (N,) of the points.
        sam_score: (T,) SAM's predicted IoU.
        psm_score, pdg_score: (T,) PSM's score of the bag's class times S_com, before and after point distance
            guidance; None without PSM.
        completeness: (T,) the share of its object that the selector thinks a mask holds; None where it was not asked.
        prm_score: (T,) PRM's; None without PRM.
        psm_index: (N,) the mask that PSM scores highest. psm_rule: (N,) the rule of BMS that moved its box: 1, 2, or 0
            if it stayed. psm_box: (N, 4) the box after mining. None without PSM.
        prm_rule, prm_box: (N,), (N, 4) the same of PRM.
        bag_index: (N,) the chosen mask. runner_up: (N,) the highest scored of the others; -1 in a bag of one.
        reassigned: (N,) bool, whether another point of the class had the better claim to the first choice.
        margin: (N,) the last module's score of the chosen mask minus the highest of the others; negative where mining
            moved the choice, NaN in a bag of one.
        score: (N,) in [0, 1], how sure the last module is that the bag holds its class; SAM's score without training.
        confidence: (N,) in [0, 1], how sure it is that the chosen mask is the object.
    """

    sizes: NDArray[np.int64]
    alternates: NDArray[np.int64]
    image_id: NDArray[np.int64] = field(metadata=_column(pa.int64()))
    point_id: NDArray[np.int64] = field(metadata=_column(pa.int64()))
    category_id: NDArray[np.int32] = field(metadata=_column(pa.int32()))
    sam_score: NDArray[np.float32] = field(metadata=_column(_SCORES))
    psm_score: NDArray[np.float32] | None = field(default=None, metadata=_column(_SCORES))
    pdg_score: NDArray[np.float32] | None = field(default=None, metadata=_column(_SCORES))
    completeness: NDArray[np.float32] | None = field(default=None, metadata=_column(_SCORES))
    prm_score: NDArray[np.float32] | None = field(default=None, metadata=_column(_SCORES))
    psm_index: NDArray[np.int64] | None = field(default=None, metadata=_column(pa.int32()))
    psm_rule: NDArray[np.int64] | None = field(default=None, metadata=_column(pa.int8()))
    psm_box: NDArray[np.float32] | None = field(default=None, metadata=_column(_BOX))
    prm_rule: NDArray[np.int64] | None = field(default=None, metadata=_column(pa.int8()))
    prm_box: NDArray[np.float32] | None = field(default=None, metadata=_column(_BOX))
    bag_index: NDArray[np.int64] = field(metadata=_column(pa.int32()))
    runner_up: NDArray[np.int64] = field(metadata=_column(pa.int32()))
    reassigned: NDArray[np.bool_] = field(metadata=_column(pa.bool_()))
    margin: NDArray[np.float32] = field(metadata=_column(pa.float32()))
    score: NDArray[np.float32] = field(metadata=_column(pa.float32()))
    confidence: NDArray[np.float32] = field(metadata=_column(pa.float32()))

    def __len__(self) -> int:
        return len(self.point_id)

    @staticmethod
    def concat(parts: Sequence["Selection"]) -> "Selection":
        """The points of several selections of one method, at least one of them, in their order."""
        columns: dict[str, Any] = {}
        for column in fields(Selection):
            values = [getattr(part, column.name) for part in parts]
            columns[column.name] = None if values[0] is None else np.concatenate(values)
        return Selection(**columns)

    def of_chosen(self, per_mask: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """A column of all masks (T,) at the chosen ones (N,); NaN for a step that the method does not have."""
        if per_mask is None:
            return np.full(len(self), np.nan, np.float32)
        return per_mask[np.cumsum(self.sizes) - self.sizes + self.bag_index]


SCHEMA = pa.schema({column.name: column.metadata["kind"] for column in fields(Selection) if column.metadata})


class ExplanationWriter:
    """Writes points as they come; memory holds one row group. Get one from `open_explanations`."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer, self._waiting, self._rows = writer, list[pa.Table](), 0

    def write(self, points: Selection) -> None:
        """Append the rows of some points."""
        self._waiting.append(_table(points))
        self._rows += len(points)
        if self._rows >= _ROWS_PER_GROUP:
            self.flush()

    def flush(self) -> None:
        """Write what waits as one row group."""
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting).combine_chunks())
        self._waiting, self._rows = [], 0


@contextmanager
def open_explanations(path: Path) -> Iterator[ExplanationWriter]:
    """Yield a writer of `path`, which is there whole at the end, or not at all.

    Raises: UserError if it cannot be written.
    """
    with disk_errors(path), atomic_path(path) as temporary, pq.ParquetWriter(temporary, SCHEMA) as file:
        writer = ExplanationWriter(file)
        yield writer
        writer.flush()


def _table(points: Selection) -> pa.Table:
    offsets = pa.array(np.concatenate([[0], np.cumsum(points.sizes)]).astype(np.int32))
    arrays = [_array(getattr(points, column.name), column.type, offsets, len(points)) for column in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _array(values: NDArray | None, kind: pa.DataType, offsets: pa.Array, rows: int) -> pa.Array:
    if values is None:
        return pa.nulls(rows, kind)
    if kind == _SCORES and values.ndim == 1:
        return pa.ListArray.from_arrays(offsets, pa.array(values, pa.float32()))
    if kind == _BOX:
        missing = np.isnan(values).any(axis=1)
        ends = np.cumsum(np.where(missing, 0, values.shape[1]))
        starts = pa.array(np.concatenate([[0], ends]).astype(np.int32), mask=np.append(missing, False))
        return pa.ListArray.from_arrays(starts, pa.array(values[~missing].reshape(-1).astype(np.float32)))
    missing = np.isnan(values) if pa.types.is_floating(kind) else None
    if kind in (pa.int8(), pa.int32()) and values.dtype == np.int64:  # an index or a rule
        missing = values < 0
    return pa.array(values, kind, mask=missing)
