"""Hypothesis strategies that spoil a sound file: values of the wrong kind in known places, then damaged bytes."""

import copy
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from hypothesis import strategies as st

Mutation = st.SearchStrategy[bytes]

_WORDS = ["", " ", "text", "nan", "-1", "1e999", "\0", "\ud800", "\u202e\x1b[31m", "../../etc/passwd", "a" * 300]
_NUMBERS = [0, -1, 1.5, 10**30, -(2**63), 2**31, 2**63, 1e308, float("nan"), float("inf"), -0.0]
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(_NUMBERS),
    st.sampled_from(_WORDS),
    st.integers(-9, 9),
    st.sampled_from([[], {}, [[]], [None], {"id": 1}, [1, 2], [1e308] * 6, [[1, 2, 3, 4, 5, 6]], {"size": [1, 1]}]),
)


def mutated_json(document: Any, deep: int = 3000) -> Mutation:
    """JSON of `document` with up to three places changed, then perhaps its bytes."""

    @st.composite
    def make(draw: st.DrawFn) -> bytes:
        text = json.dumps(_spoilt(draw, document))
        extra = draw(st.sampled_from(["", "", "", "", "digits", "deep", "twice"]))
        if extra == "digits":
            text = text.replace("1", "1" * 5000, 1)
        elif extra == "deep":
            text = text.replace("null", "[" * deep + "]" * deep, 1)
        elif extra == "twice":
            text = text.replace("{", '{"id": 1, "id": 2, ', 1)
        return _damaged(draw, text.encode("utf-8", "surrogatepass"))

    return make()


def mutated_text(text: str) -> Mutation:
    """A text file of which words are replaced and lines repeated or dropped, then perhaps its bytes damaged."""

    @st.composite
    def make(draw: st.DrawFn) -> bytes:
        lines = text.splitlines(keepends=True)
        for _ in range(draw(st.integers(0, 3))):
            place = draw(st.integers(0, len(lines) - 1))
            words = [word for word in lines[place].replace("=", ",").split(",") if word.strip()]
            old = draw(st.sampled_from(words)) if words else lines[place]
            new = draw(
                st.sampled_from([*_WORDS, '"', "'", ";", ",,", "9" * 5000, "[" * 500, "x" * 140_000, "true", "[]"])
            )
            action = draw(st.sampled_from(["replace", "repeat", "drop"]))
            changed = {"replace": [lines[place].replace(old, new, 1)], "repeat": [lines[place]] * 2, "drop": []}[action]
            lines = [*lines[:place], *changed, *lines[place + 1 :]] or [""]
        encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-16"]))
        return _damaged(draw, "".join(lines).encode(encoding, "replace"))

    return make()


def mutated_bytes(content: bytes) -> Mutation:
    """Flipped, cut, repeated or inserted bytes."""

    @st.composite
    def make(draw: st.DrawFn) -> bytes:
        return _damaged(draw, content, sound=0)

    return make()


def mutated_parquet(table: pa.Table) -> Mutation:
    """A table with columns dropped, retyped, emptied or shuffled, then perhaps its bytes damaged."""

    @st.composite
    def make(draw: st.DrawFn) -> bytes:
        spoilt = table
        for _ in range(draw(st.integers(0, 2))):
            place = draw(st.integers(0, spoilt.num_columns - 1)) if spoilt.num_columns else 0
            if not spoilt.num_columns:
                break
            name = spoilt.column_names[place]
            action = draw(st.sampled_from(["drop", "null", "text", "shuffle", "values", "rows"]))
            if action == "drop":
                spoilt = spoilt.drop_columns([name])
            elif action == "rows":
                spoilt = spoilt.slice(0, draw(st.integers(0, spoilt.num_rows)))
            else:
                spoilt = spoilt.set_column(place, name, _column(draw, action, spoilt[name]))
        stream = io.BytesIO()
        pq.write_table(spoilt, stream)
        return _damaged(draw, stream.getvalue())

    return make()


def mutated_tensors(content: dict[str, Any]) -> Mutation:
    """What torch.save writes of `content` with up to three places changed, then perhaps its bytes damaged."""

    @st.composite
    def make(draw: st.DrawFn) -> bytes:
        stream = io.BytesIO()
        torch.save(_spoilt(draw, content), stream)
        return _damaged(draw, stream.getvalue())

    return make()


def _column(draw: st.DrawFn, action: str, column: pa.ChunkedArray) -> pa.Array:
    values = column.to_pylist()
    if action == "null":
        return pa.nulls(len(values), column.type)
    if action == "text":
        return pa.array([str(value) for value in values])
    if action == "shuffle":
        return pa.array(values[::-1], column.type)
    junk = draw(st.sampled_from([0, -1, 2**31 - 1, float("nan"), float("inf"), b"o\x00", b"", "", 1.5]))

    def spoil(value: Any) -> Any:
        if isinstance(value, bytes):  # bytes(2**31) would be so many
            return str(junk).encode() if not isinstance(junk, bytes) else junk
        return [spoil(item) for item in value] if isinstance(value, list) else type(value)(junk)

    try:
        return pa.array([spoil(values[0]), *values[1:]], column.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, IndexError):
        return pa.array(values[::-1], column.type)


def _spoilt(draw: st.DrawFn, document: Any) -> Any:
    spoilt = copy.deepcopy(document)
    for _ in range(draw(st.integers(0, 3))):
        places = _places(spoilt)
        if not places:
            return draw(JUNK)
        container, key = places[draw(st.integers(0, len(places) - 1))]
        action = draw(st.sampled_from(["junk", "junk", "drop", "wrap", "twice"]))
        if action == "drop":
            del container[key]
        elif action == "wrap":
            container[key] = [container[key]]
        elif action == "twice" and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        else:
            container[key] = copy.deepcopy(draw(JUNK))
    return spoilt


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a nested value."""
    found: list[tuple[Any, Any]] = []
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        found.append((value, key))
        found += _places(value[key])
    return found


def _damaged(draw: st.DrawFn, content: bytes, sound: int = 3) -> bytes:
    """The bytes as they are in `sound` of `sound` + 1 cases, else with some of them wrong."""
    if draw(st.integers(0, sound)) or not content:
        return content
    damaged = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(damaged) - 1)))
        action = draw(st.sampled_from(["flip", "cut", "insert", "digit"]))
        new = b""
        if action == "flip" and damaged:
            new = bytes([damaged[place] ^ 1 << draw(st.integers(0, 7))])
        elif action == "insert":
            new = draw(st.binary(max_size=8))
        elif action == "digit":
            new = draw(st.sampled_from([b"9", b"-", b"\0", b"\xff", b'"', b"[", b"{", b"e", b"\n"]))
        damaged[place : place + 1] = new
    if draw(st.integers(0, 3)) == 0:
        del damaged[draw(st.integers(0, len(damaged))) :]
    return bytes(damaged)
