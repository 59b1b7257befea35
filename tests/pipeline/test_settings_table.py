"""The rows that flags, documentation and messages are made of."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from sapnet_pipe.pipeline.settings_table import settings_table
from sapnet_pipe.stages.flags import FLAG, Flag, Seed


class Inner(BaseModel, frozen=True, extra="forbid"):
    enabled: Annotated[bool, Flag("--inner")] = Field(False, description="Switch it on.")
    steps: tuple[float, ...] = Field((0.5, 1), description="Where.")
    limit: float = Field(0.1, gt=0, le=1, description="How much.")


class Outer(BaseModel, frozen=True, extra="forbid"):
    kind: Annotated[Literal["a", "b"] | None, FLAG] = Field(None, description="Which.")
    file: Path = Field(description="Where from.")
    inner: Inner = Field(Inner(limit=0.2), description="More.")
    seed: Seed = Field(3, description="A seed.")


def test_a_row_says_all_that_its_field_declares() -> None:
    rows = {row.key: row for row in settings_table(Outer)}
    assert list(rows) == ["kind", "file", "inner.enabled", "inner.steps", "inner.limit", "seed"]
    assert [row.flag for row in rows.values()] == ["--kind", "", "--inner", "", "", "--seed"]
    assert [row.type for row in rows.values()] == ["text", "path", "bool", "list of float", "float", "int"]
    assert [row.limits for row in rows.values()] == ["", "", "", "", "> 0, <= 1", ">= 0, <= 1e+13"]
    assert [row.shown_default for row in rows.values()] == ["", "", "false", "[0.5, 1]", "0.2", "3"]
    assert rows["kind"].choices == ("a", "b")
    assert rows["file"].required
    assert rows["seed"].description == "A seed."
