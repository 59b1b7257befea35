"""What a check found: kinds of faults, each with a count and an example."""

from dataclasses import dataclass, replace
from os import PathLike


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault.

    Attributes:
        name: Stable, for programs, for example ``points-in-percent``.
        problem: What is counted and what is wrong with it: "points look like percent, not pixels".
        hint: What to do about it, an imperative sentence without its final full stop.
        error: Whether it has to be fixed: a command would refuse it, or go wrong without a word.
    """

    name: str
    problem: str
    hint: str
    error: bool = True


@dataclass(frozen=True, slots=True)
class Finding:
    """A kind of fault in one file: how many (of how many, where that is known), and the first of them."""

    kind: Kind
    file: str
    count: int
    of: int | None
    example: str

    def to_dict(self) -> dict[str, object]:
        """JSON-able form."""
        kind = {"kind": self.kind.name, "problem": self.kind.problem, "mend": self.kind.hint, "must": self.kind.error}
        return kind | {"file": self.file, "count": self.count, "of": self.of, "example": self.example}


class Findings:
    """Collects what checks find, in the order of the first of each kind; equal kinds of one file are counted."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Finding] = {}

    def add(
        self, kind: Kind, file: str | PathLike[str], example: str, *, count: int = 1, of: int | None = None
    ) -> None:
        """Count `count` more of this kind; the first example is kept."""
        key = (kind.name, str(file))
        known = self._found.get(key)
        self._found[key] = (
            Finding(kind, str(file), count, of, example) if known is None else replace(known, count=known.count + count)
        )

    def errors(self) -> list[Finding]:
        """What has to be fixed, in the order of being found."""
        return [finding for finding in self._found.values() if finding.kind.error]

    def warnings(self) -> list[Finding]:
        """What is worth knowing."""
        return [finding for finding in self._found.values() if not finding.kind.error]

    def has(self, name: str) -> bool:
        """Whether a kind of this name was found in any file."""
        return any(key[0] == name for key in self._found)


def shown(value: object, limit: int = 60) -> str:
    """A value of a file for an example: one line, shortened; text stays in quotes ("3" is not 3)."""
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
