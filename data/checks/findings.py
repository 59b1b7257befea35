"""What a check found: kinds of faults, each with a count and an example."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from os import PathLike

from sapnet_pipe.data.errors import FaultKind, FaultReport, UserError, one_line


@dataclass(frozen=True, slots=True)
class Finding:
    """A kind of fault in one file: how many (of how many, where that is known), and the first of them."""

    kind: FaultKind
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
        self, kind: FaultKind, file: str | PathLike[str], example: str, *, count: int = 1, of: int | None = None
    ) -> None:
        """Count `count` more of this kind; the first example is kept."""
        key = (kind.name, str(file))
        known = self._found.get(key)
        self._found[key] = (
            Finding(kind, str(file), count, of, one_line(example))
            if known is None
            else replace(known, count=known.count + count)
        )

    def note(self, kind: FaultKind, file: str | PathLike[str], more: str) -> None:
        """Add to the example of what was found."""
        key = (kind.name, str(file))
        self._found[key] = replace(self._found[key], example=f"{self._found[key].example}; {one_line(more)}")

    def withdraw(self, kind: FaultKind, file: str | PathLike[str], count: int) -> None:
        """Count `count` fewer of this kind, which another kind explains better."""
        key = (kind.name, str(file))
        known = self._found.get(key)
        if known is not None and known.count > count:
            self._found[key] = replace(known, count=known.count - count)
        else:
            self._found.pop(key, None)

    def errors(self) -> list[Finding]:
        """What has to be fixed, in the order of being found."""
        return [finding for finding in self._found.values() if finding.kind.error]

    def warnings(self) -> list[Finding]:
        """What is worth knowing."""
        return [finding for finding in self._found.values() if not finding.kind.error]

    def has(self, kind: FaultKind, file: str | PathLike[str]) -> bool:
        """Whether a kind was found in a file."""
        return (kind.name, str(file)) in self._found


class CollectedFaults(FaultReport):
    """What a reader reports, as findings: the example is what the reader would have raised.

    Args:
        left_out: Kinds that are not collected.
        error: False to have all of them as warnings.
    """

    def __init__(
        self,
        source: str | PathLike[str],
        findings: Findings,
        *,
        left_out: Collection[FaultKind] = (),
        error: bool = True,
    ) -> None:
        super().__init__(source)
        self._findings, self._left_out, self._error = findings, left_out, error
        self._counts: dict[str, int] = {}

    def __call__(self, kind: FaultKind, field: str, value: object, problem: str, hint: str | None = None) -> None:
        self.passed_on(kind, UserError(self.source, field, value, problem, hint or kind.hint))

    def passed_on(self, kind: FaultKind, error: UserError) -> None:
        if kind not in self._left_out:
            name, bracket, _ = error.field.partition("[")
            kind = replace(kind, hint=error.hint, error=kind.error and self._error)
            self._findings.add(kind, self.source, error.fault, of=self._counts.get(name) if bracket else None)

    def entries(self, name: str, count: int) -> None:
        self._counts[name] = count


def shown(value: object, limit: int = 60) -> str:
    """A value of a file for an example: one line, shortened; text stays in quotes ("3" is not 3)."""
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def shown_box(box: Iterable[float]) -> str:
    """A box for an example: [1, 2.5, 3, 4]."""
    return f"[{', '.join(f'{value:g}' for value in box)}]"
