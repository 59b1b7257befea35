"""Detectron2's checkpoint files, written whole or not at all and read without running any code in them."""

from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import write_bytes
from sapnet_pipe.stages.segment.weights.model_file import DESCRIPTION_KEY, ModelDescription
from sapnet_pipe.stages.training.checkpoint import load_tensors, load_weights, save_tensors
from sapnet_pipe.stages.training.run_files import LAST_CHECKPOINT


class Checkpointer(DetectionCheckpointer):
    """Files that `predict` reads as well: each carries the description of its model.

    Args:
        description: Its `pixels` are those of this model.
        checkpointables: What is saved beside the model, as for Detectron2.
    """

    def __init__(self, model: Any, save_dir: str, description: ModelDescription, **checkpointables: Any) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self._description = description

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``name.pth`` and remember it as the last checkpoint; only the main process does."""
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: thing.state_dict() for key, thing in self.checkpointables.items()}
        content = {"model": self.model.state_dict(), **states, **kwargs}
        content[DESCRIPTION_KEY] = self._description.model_dump(mode="json")
        save_tensors(Path(self.save_dir) / f"{name}.pth", content)
        self.tag_last_checkpoint(f"{name}.pth")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the file in ``last_checkpoint``."""
        write_bytes(Path(self.save_dir) / LAST_CHECKPOINT, last_filename_basename.encode())

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load the model, strictly, and the named checkpointables (None: all that the file has).

        Returns: what else the file holds.
        Raises: UserError if the file is missing, damaged, holds code, or does not fit.
        """
        if not path:
            return {}
        content = load_tensors(Path(path))
        if not isinstance(content.get("model"), dict):
            raise UserError(path, "model", sorted(map(str, content))[:5], "not a checkpoint", "Give a model file")
        counters = {k: v for k, v in self.model.state_dict().items() if k.endswith("num_batches_tracked")}
        load_weights(self.model, {**counters, **content.pop("model")}, Path(path))
        for key in self.checkpointables if checkpointables is None else checkpointables:
            if key in content:
                self.checkpointables[key].load_state_dict(content.pop(key))
        return content
