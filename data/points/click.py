"""What the readers of the single forms hand back."""

from typing import Any, NamedTuple

from sapnet_pipe.data.coco.document import is_number


class Click(NamedTuple):
    """A point in original-image pixels, and where its two numbers stand in the entry.

    `slack` is how far outside the image the form's own tools may have put a point (pixels); `shift` is what has to be
    added for our frame, in which the first pixel spans 0 to 1.
    """

    x: float
    y: float
    x_field: str
    y_field: str
    slack: float = 0.0
    shift: float = 0.0


class MalformedClick(ValueError):  # noqa: N818
    """A click that cannot be understood; the caller adds the file and the entry."""

    def __init__(self, field: str, value: Any, problem: str, hint: str) -> None:
        self.field, self.value, self.problem, self.hint = field, value, problem, hint
        super().__init__(f"{field} = {value!r}, {problem}. {hint}.")


def pair(value: Any, field: str) -> tuple[float, float]:
    """Two finite numbers [x, y]; MalformedClick otherwise."""
    if type(value) is not list or len(value) != 2:
        raise MalformedClick(field, _shown(value), "which is not [x, y]", "Give two numbers in original pixels")
    for index, number in enumerate(value):
        if not is_number(number):
            hint = "Give x and y in original pixels"
            raise MalformedClick(f"{field}[{index}]", _shown(number), "which is not a finite number", hint)
    return value[0], value[1]


def _shown(value: Any) -> Any:
    """A text in quotes: "3" is not 3, and must not look like it."""
    return repr(value) if isinstance(value, str) else value
