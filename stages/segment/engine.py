"""Which engine hosts the training."""

from data.errors import UserError
from stages.segment.config import EngineName


def choose_engine(name: EngineName) -> tuple[str, str]:
    """The engine behind an ``engine`` setting, and one line that says what was taken.

    Raises: UserError for an engine that this version does not have.
    """
    if name == "detectron2":
        mend = "Use --engine builtin, which trains the same network"
        raise UserError("settings", "engine", name, "which this version does not host yet", mend)
    why = "engine auto takes builtin" if name == "auto" else "engine builtin"
    return "builtin", f"{why}: torchvision's ResNet-FPN, trained by Lightning Fabric."
