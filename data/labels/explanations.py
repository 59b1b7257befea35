"""explain.parquet: why each mask was chosen, one row per point, the masks' scores as lists in the order of the bag.

A list is null where the method has no such step. Boxes are XYXY in original pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sapnet_pipe.data.files import atomic_path, disk_errors

_SCORES, _BOX = pa.list_(pa.float32()), pa.list_(pa.float32(), 4)
SCHEMA = pa.schema(
    {
        "image_id": pa.int64(),
        "point_id": pa.int64(),
        "category_id": pa.int32(),
        "sam_score": _SCORES,
        "psm_score": _SCORES,
        "pdg_score": _SCORES,
        "completeness": _SCORES,
        "prm_score": _SCORES,
        "psm_index": pa.int32(),
        "psm_rule": pa.int8(),
        "psm_box": _BOX,
        "prm_rule": pa.int8(),
        "prm_box": _BOX,
        "bag_index": pa.int32(),
        "runner_up": pa.int32(),
        "reassigned": pa.bool_(),
        "margin": pa.float32(),
        "score": pa.float32(),
        "confidence": pa.float32(),
    }
)
_ROWS_PER_GROUP = 4096


@dataclass(frozen=True, slots=True)
class ExplainedPoints:
    """N points and their T masks in all. What is NaN, or negative in an index or a rule, is written as null.

    Attributes:
        image_id, point_id, category_id: (N,). sizes: (N,) masks of each bag, which sum to T.
        sam_score: (T,) SAM's predicted IoU.
        psm_score, pdg_score: (T,) PSM's score of the bag's class times S_com, before and after point distance
            guidance; None without PSM.
        completeness: (T,) the share of its object that the selector thinks a mask holds; None where it was not asked.
        prm_score: (T,) PRM's; None without PRM.
        psm_index: (N,) the mask that PSM scores highest. psm_rule: (N,) the mining rule that moved its box: 1, 2, or 0
            if it stayed. psm_box: (N, 4) the box after mining.
        prm_rule, prm_box: (N,), (N, 4) the same of PRM.
        bag_index: (N,) the chosen mask. runner_up: (N,) the highest scored of the others.
        reassigned: (N,) bool, whether another point of the class had the better claim to the first choice.
        margin, score, confidence: (N,) as in the pseudo labels.
    """

    image_id: NDArray[np.int64]
    point_id: NDArray[np.int64]
    category_id: NDArray[np.int32]
    sizes: NDArray[np.int64]
    sam_score: NDArray[np.float32]
    psm_score: NDArray[np.float32] | None
    pdg_score: NDArray[np.float32] | None
    completeness: NDArray[np.float32] | None
    prm_score: NDArray[np.float32] | None
    psm_index: NDArray[np.int64]
    psm_rule: NDArray[np.int64]
    psm_box: NDArray[np.float32]
    prm_rule: NDArray[np.int64]
    prm_box: NDArray[np.float32]
    bag_index: NDArray[np.int64]
    runner_up: NDArray[np.int64]
    reassigned: NDArray[np.bool_]
    margin: NDArray[np.float32]
    score: NDArray[np.float32]
    confidence: NDArray[np.float32]


class ExplanationWriter:
    """Writes points as they come; memory holds one row group. Get one from `open_explanations`."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer, self._waiting, self._rows = writer, list[pa.Table](), 0

    def write(self, points: ExplainedPoints) -> None:
        """Append the rows of some points."""
        self._waiting.append(_table(points))
        self._rows += len(points.point_id)
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


def _table(points: ExplainedPoints) -> pa.Table:
    values = {field.name: getattr(points, field.name) for field in fields(points)}
    sizes = values.pop("sizes")
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
    arrays = [_column(values[field.name], field.type, offsets, len(sizes)) for field in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _column(values: NDArray | None, kind: pa.DataType, offsets: pa.Array, rows: int) -> pa.Array:
    if values is None:
        return pa.nulls(rows, kind)
    if kind == _SCORES:
        return pa.ListArray.from_arrays(offsets, pa.array(values, pa.float32()))
    if kind == _BOX:
        mask = np.isnan(values).any(axis=1)
        flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1), pa.float32())
        return pa.FixedSizeListArray.from_arrays(flat, 4, mask=pa.array(mask))
    missing = np.isnan(values) if pa.types.is_floating(kind) else None
    if pa.types.is_integer(kind) and kind != pa.int64() and values.dtype == np.int64:
        missing = values < 0
    return pa.array(values, kind, mask=missing)
