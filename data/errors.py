"""What the user can fix: the one exception, the kinds of faults, and where a reader reports them.

Every rule of a file format stands once, beside the parsing of its field, and goes to a `FaultReport`. The default one
raises the first fault; `data.checks.findings.CollectedFaults` counts all of them for `doctor`, in the same words.
"""

from dataclasses import dataclass
from os import PathLike


class UserError(Exception):
    """A fault in the user's files, settings or machine; the command line prints it as one line, exit code 2.

    Args:
        file: The file, folder or setting at fault, as the user named it.
        field: Where in it, for example ``annotations[17].point[0]``.
        value: What stands there; shortened to 80 characters.
        problem: Why that cannot be used, without a final full stop.
        hint: What to do about it, an imperative sentence without its final full stop.
    """

    def __init__(self, file: str | PathLike[str], field: str, value: object, problem: str, hint: str) -> None:
        self.file, self.field, self.value, self.problem, self.hint = str(file), field, value, problem, hint
        super().__init__(f"{one_line(self.file)}: {self.fault}. {one_line(hint)}.")

    @property
    def fault(self) -> str:
        """Field, value and problem in one line, such as ``images[0].id = '7', which is not a whole number``."""
        return f"{one_line(self.field)} = {_short(self.value)}, {one_line(self.problem)}"

    def __reduce__(self) -> tuple[type["UserError"], tuple[object, ...]]:
        """Pickle by the five parts, so that an error crosses from one process to another."""
        return type(self), (self.file, self.field, self.value, self.problem, self.hint)


class SettingError(ValueError):
    """A setting that does not go with another; raised by validators of a whole settings model.

    Args:
        field: The setting, under the names of the model that checks it: ``completeness.enabled``.
        value, problem, hint: As those of `UserError`.
    """

    def __init__(self, field: str, value: object, problem: str, hint: str) -> None:
        self.field, self.value, self.problem, self.hint = field, value, problem, hint
        super().__init__(f"{field} = {value}, {problem}. {hint}")


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One kind of fault.

    Attributes:
        name: Stable, for programs, for example ``points-in-percent``.
        problem: What is counted and what is wrong with it: "points look like percent, not pixels".
        hint: What to do about it, an imperative sentence without its final full stop.
        error: Whether it has to be fixed: a command would refuse the file, or silently go wrong. Otherwise it is a
            warning, which ends no reading.
        mended: Whether the reader has put it right, as `hint` says; it is a warning, and a note of the command.
        fix: What `doctor --write-fixed` does about an error: "They get new ids". Empty if nobody but the user can.
    """

    name: str
    problem: str
    hint: str
    error: bool = True
    mended: bool = False
    fix: str = ""


def mended(name: str, problem: str, done: str) -> FaultKind:
    """A kind that the reader puts right; `done` says how: "They are left out"."""
    return FaultKind(name, problem, done, error=False, mended=True)


class FaultReport:
    """Where a reader reports the faults of the file `source`; this one raises the first as a `UserError`.

    A reader goes on after a report as well as it can, which matters only to reports that do not raise. What it has
    mended is counted.
    """

    def __init__(self, source: str | PathLike[str]) -> None:
        self.source = source
        self._mended: dict[FaultKind, tuple[int, str]] = {}

    def __call__(self, kind: FaultKind, field: str, value: object, problem: str, hint: str | None = None) -> None:
        """Report `field = value, problem`; `hint` where the example needs another than its kind."""
        if kind.error:
            raise UserError(self.source, field, value, problem, hint or kind.hint)
        if kind.mended:
            count, first = self._mended.get(kind, (0, f"{field} = {_short(value)}"))
            self._mended[kind] = count + 1, first

    def passed_on(self, kind: FaultKind, error: UserError) -> None:
        """Report what a function that knows no report has raised."""
        raise error

    def notes(self) -> tuple[str, ...]:
        """What was mended, a line a kind, with its number and the first of them."""
        return tuple(
            f"{self.source}: {count} {kind.problem} (first {first}). {kind.hint}."
            for kind, (count, first) in self._mended.items()
        )

    def entries(self, name: str, count: int) -> None:
        """Note that the file has a list `name` of `count` entries, so that faults can be counted as "3 of 20"."""


def _short(value: object, limit: int = 80) -> str:
    text = one_line(value if isinstance(value, str) else repr(value))
    return text if len(text) <= limit else text[: limit - 3] + "..."


def one_line(text: object) -> str:
    """On one line, and without the control characters by which a name in a file would steer a terminal."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in " ".join(str(text).split()))
