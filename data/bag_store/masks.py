"""What a store keeps of every mask, each column declared once.

A new column is a new field of `MaskFigures`: the Parquet schema, the bytes of a shard, the table of a store, filters,
import and export follow from its declaration. Only those who make masks have to give it a value: SAM in
`stages/bags/sam/mask_enlarging.py`, while imported masks have zeros. Stores made before lack it: give it the default
None, or raise `SCHEMA_VERSION`, which refuses them.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sapnet_pipe.data.coco.masks import rle_area_and_box

TOKENS = 4  # SAM's mask tokens per prompt; source = prompt * TOKENS + token
FEATURE_COLUMN = "mask_feature"

_Masks = TypeVar("_Masks", bound="MaskFigures")


def _stored(name: str, kind: pa.DataType, *, from_rle: bool = False) -> Mapping[str, Any]:
    """Metadata of a field: its Parquet column, the Arrow type of one mask's value, and whether the RLE decides it."""
    return {"name": name, "kind": kind, "from_rle": from_rle}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskFigures:
    """What is known of M masks beside their pixels. A column whose default is None may be absent from a store.

    Args:
        box_xyxy: (M, 4) float32 in original pixels, right and bottom exclusive.
        area: (M,) int32 pixels.
        score, stability: (M,) float32, SAM's predicted IoU, and the IoU of the mask at a higher and a lower threshold.
        source: (M,) int8, prompt * 4 + SAM mask token; prompt 0 is the point alone.
        feature: (M, C) float16, SAM's image features averaged over each mask, or None.
    Raises: ValueError if the columns are not of one length.
    """

    box_xyxy: NDArray[np.float32] = field(metadata=_stored("mask_box", pa.list_(pa.float32(), 4), from_rle=True))
    area: NDArray[np.int32] = field(metadata=_stored("mask_area", pa.int32(), from_rle=True))
    score: NDArray[np.float32] = field(metadata=_stored("mask_score", pa.float32()))
    stability: NDArray[np.float32] = field(metadata=_stored("mask_stability", pa.float32()))
    source: NDArray[np.int8] = field(metadata=_stored("mask_source", pa.int8()))
    feature: NDArray[np.float16] | None = field(default=None, metadata=_stored(FEATURE_COLUMN, pa.list_(pa.float16())))

    def __post_init__(self) -> None:
        columns = (getattr(self, column.name) for column in fields(self))
        if len({len(values) for values in columns if values is not None}) > 1:
            raise ValueError("the columns of the masks are not of one length")

    def __len__(self) -> int:
        return len(self.area)

    def take(self: _Masks, index: slice | Sequence[int] | NDArray[Any]) -> _Masks:
        """The masks at `index`: a slice, places, or a (M,) bool array."""
        columns = {column.name: getattr(self, column.name) for column in fields(self)}
        return type(self)(**{name: _taken(values, index) for name, values in columns.items()})

    @classmethod
    def concat(cls: type[_Masks], parts: Sequence[_Masks]) -> _Masks:
        """All masks of one or more parts, in order. Raises: ValueError if only some of them have a column."""
        names = [column.name for column in fields(cls)]
        return cls(**{name: _joined([getattr(part, name) for part in parts]) for name in names})

    def with_rle(self, rle: list[bytes]) -> "MaskColumns":
        """The same masks with their RLEs."""
        return MaskColumns(rle=rle, **{column.name: getattr(self, column.name) for column in fields(MaskFigures)})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskColumns(MaskFigures):
    """All that a store keeps of M masks.

    Args:
        rle: M COCO compressed RLEs at the original resolution.
    """

    rle: list[bytes] = field(metadata=_stored("mask_counts", pa.binary()))

    @classmethod
    def from_rle(cls, rle: list[bytes], height: int, width: int, **figures: Any) -> "MaskColumns":
        """Masks of one image with the boxes and areas of their RLEs; `figures` are the other columns."""
        found = [rle_area_and_box(code, height, width) for code in rle]
        box_xyxy = np.array([box for _, box in found], np.float32).reshape(-1, 4)
        area = np.array([area for area, _ in found], np.int32)
        return cls(rle=rle, box_xyxy=box_xyxy, area=area, **figures)


class MaskColumn(NamedTuple):
    """A column as it is declared.

    Attributes:
        field: Of the record. name: Of the Parquet column.
        kind: Arrow type of one mask's value.
        from_rle: Whether the mask's RLE decides it.
        optional: Whether a store may lack it.
    """

    field: str
    name: str
    kind: pa.DataType
    from_rle: bool
    optional: bool

    def is_in(self, names: Container[str]) -> bool:
        """Whether shards have it whose optional columns are among `names`."""
        return not self.optional or self.name in names


def _declared(record: type[MaskFigures]) -> tuple[MaskColumn, ...]:
    return tuple(MaskColumn(item.name, **item.metadata, optional=item.default is None) for item in fields(record))


FIGURE_COLUMNS = _declared(MaskFigures)
(RLE_COLUMN,) = (column for column in _declared(MaskColumns) if column not in FIGURE_COLUMNS)
MASK_COLUMNS = (RLE_COLUMN, *FIGURE_COLUMNS)  # in Parquet's order


def _taken(values: Any, index: Any) -> Any:
    if isinstance(values, list):
        return [values[place] for place in np.arange(len(values))[index]]
    return None if values is None else values[index]


def _joined(parts: Sequence[Any]) -> Any:
    if all(part is None for part in parts):
        return None
    if any(part is None for part in parts):
        raise ValueError("only some of the masks have this column")
    return list(chain.from_iterable(parts)) if isinstance(parts[0], list) else np.concatenate(parts)
