"""What a training by Detectron2 leaves in the run folder and shows in the terminal: checkpoints, records, progress."""

import json
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import HookBase
from detectron2.utils.events import EventWriter, get_event_storage

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import disk_errors, write_bytes
from sapnet_pipe.data.progress import progress_bar
from sapnet_pipe.stages.segment.engine import SHORTER
from sapnet_pipe.stages.segment.weights.model_file import DESCRIPTION_KEY, ModelDescription
from sapnet_pipe.stages.training.checkpoint import load_tensors, load_weights, save_tensors
from sapnet_pipe.stages.training.forecast import Forecast
from sapnet_pipe.stages.training.run_files import LAST_CHECKPOINT

_RECORDED = {
    "loss_ins": "loss_ins",
    "loss_cate": "loss_cate",
    "positive_pairs": "positive_pairs",
    "total_loss": "loss",
    "grad_norm": "grad_norm",
    "time": "seconds",
}


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


class RunRecords(EventWriter):
    """metrics.jsonl as the builtin engine writes it: one record per window of steps, each a mean over them.

    Attributes:
        last: The last record.
    """

    def __init__(self, path: Path, window: int) -> None:
        self._path, self._window, self._written = path, window, -1.0
        self.last: dict[str, float] = {}

    def go_on(self) -> None:
        """Take the records that are there for written."""
        self._written = _last_step(self._path)

    def write(self) -> None:
        """Append the record of the steps since the last one, if there are any."""
        storage = get_event_storage()
        step = storage.latest().get("total_loss", (0.0, -1))[1]
        if step <= self._written:
            return
        self._written, steps = step, step % self._window + 1
        buffers = storage.histories()
        record = {"iteration": step + 1, "lr": buffers["lr"].latest()}
        record |= {name: buffers[key].avg(steps) for key, name in _RECORDED.items() if key in buffers}
        self.last = {key: float(value) for key, value in record.items() if key not in ("iteration", "lr")}
        with disk_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**record, "skipped": 0}, default=float) + "\n")


class Progress(HookBase):
    """A progress bar on standard error, in place of log lines, and how long the training will take."""

    def before_train(self) -> None:
        """Begin at the iteration that the run goes on with."""
        total, start = self.trainer.max_iter, self.trainer.start_iter
        self._bar = progress_bar(total=total, initial=start, desc="training", unit="it", quiet=False)
        device = torch.device(self.trainer.cfg.MODEL.DEVICE)
        self._forecast = Forecast(total - start, device, shorter=SHORTER, quiet=False)

    def after_step(self) -> None:
        """Show one more step."""
        self._bar.set_postfix(loss=round(self.trainer.storage.history("total_loss").latest(), 3), refresh=False)
        self._bar.update()
        self._forecast.after_step()

    def after_train(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


def cut_back(path: Path, iterations: int, *, counted_from: int) -> None:
    """Remove the records that a killed run wrote after its last checkpoint.

    Args:
        path: Lines of JSON with an ``iteration``; a line that was not finished goes too.
        iterations: Steps that the run goes on after.
        counted_from: Number of the first step in this file.
    """
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    kept = [line for line in lines if _iteration(line) < iterations + counted_from]
    if len(kept) < len(lines):
        write_bytes(path, "".join(f"{line}\n" for line in kept).encode())


def _last_step(path: Path) -> float:
    """The step, counted from 0, of the last record; -1 if there is none."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return _iteration(lines[-1]) - 1 if lines else -1


def _iteration(line: str) -> float:
    try:
        return float(json.loads(line)["iteration"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
