"""Reading the golden vectors, which hold numbered cases."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from tests.golden_record import Recorded
from tests.places import GOLDEN

FOLDER = GOLDEN / "sapnet"


def cases(name: str) -> Iterator[dict[str, Any]]:
    """The cases of one file, arrays as tensors."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        for index in range(int(arrays["num_cases"])):
            prefix = f"case{index}_"
            keys = [key for key in arrays.files if key.startswith(prefix)]
            case = {key.removeprefix(prefix): torch.as_tensor(arrays[key]) for key in keys}
            yield Recorded(f"sapnet/{name}", case)


def close(actual: torch.Tensor, wanted: torch.Tensor, tolerance: float) -> None:
    """The notes' rule: |a - b| <= tolerance * (1 + |b|)."""
    assert actual.shape == wanted.shape
    assert bool(((actual - wanted).abs() <= tolerance * (1 + wanted.abs())).all()), (actual - wanted).abs().max()
