"""The one exception for what the user can fix."""

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
        super().__init__(f"{self.file}: {field} = {_short(value)}, {_one_line(problem)}. {_one_line(hint)}.")

    def __reduce__(self) -> tuple[type["UserError"], tuple[object, ...]]:
        """Pickle by the five parts, so that an error crosses from one process to another."""
        return type(self), (self.file, self.field, self.value, self.problem, self.hint)


def _short(value: object, limit: int = 80) -> str:
    text = _one_line(value if isinstance(value, str) else repr(value))
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
