"""Detectron2's DefaultTrainer for our SOLOv2: its hooks, loaders and evaluator, a data order that survives a resume."""

import weakref
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultTrainer, hooks
from detectron2.evaluation import COCOEvaluator
from detectron2.utils import comm
from torch import nn

from sapnet_pipe.stages.segment.detectron2.loader import CheckedLoader, train_loader
from sapnet_pipe.stages.segment.detectron2.mapper import MaskMapper
from sapnet_pipe.stages.segment.detectron2.solver import build_lr_scheduler, build_optimizer
from sapnet_pipe.stages.segment.detectron2.stopping import Checkpoints, Records
from sapnet_pipe.stages.segment.detectron2.writers import Checkpointer, Progress, RunRecords, cut_back
from sapnet_pipe.stages.segment.weights.model_file import ModelDescription
from sapnet_pipe.stages.training.config import TrainConfig
from sapnet_pipe.stages.training.interruption import Interruption
from sapnet_pipe.stages.training.run_files import DETECTRON2_METRICS, INFERENCE, METRICS

CHECKPOINTS_KEPT = 2


class Trainer(DefaultTrainer):
    """Trains what a config describes.

    Args:
        cfg: Of `config_of`; its data sets are registered.
        description: Goes into every checkpoint.
        train: Of the settings: how often records are written, and checkpoints by the clock.
        interruption: Whether this process was asked to end.
    """

    def __init__(
        self,
        cfg: CfgNode,
        description: ModelDescription,
        train: TrainConfig,
        *,
        interruption: Interruption,
        quiet: bool,
    ) -> None:
        self._description, self._train, self._interruption, self._quiet = description, train, interruption, quiet
        self.records = RunRecords(Path(cfg.OUTPUT_DIR) / METRICS, train.log_every)
        super().__init__(cfg)
        if cfg.SOLVER.AMP.ENABLED:
            self._trainer.precision = getattr(torch, cfg.SOLVER.AMP.PRECISION)

    def resume_or_load(self, resume: bool = True) -> None:
        """As Detectron2 does; the data goes on from the iteration where the run goes on."""
        super().resume_or_load(resume)
        self._trainer.reset_data_loader(lambda: train_loader(self.cfg, self.start_iter))
        if comm.is_main_process():
            out = Path(self.cfg.OUTPUT_DIR)
            cut_back(out / METRICS, self.start_iter, counted_from=1)
            self.records.go_on()
            cut_back(out / DETECTRON2_METRICS, self.start_iter, counted_from=0)

    def build_hooks(self) -> list[Any]:
        """Detectron2's hooks but PreciseBN, with our checkpointer, our progress bar and our interval of records."""
        self.checkpointer = Checkpointer(
            self.model, self.cfg.OUTPUT_DIR, self._description, trainer=weakref.proxy(self)
        )
        evaluation = hooks.EvalHook(self.cfg.TEST.EVAL_PERIOD, self._evaluate)
        result: list[Any] = [hooks.IterationTimer(), hooks.LRScheduler(), evaluation]
        if comm.is_main_process():
            if not self._quiet:
                result.append(Progress())
            result.append(Records(self.build_writers(), period=self._train.log_every))
        checkpoints = Checkpoints(
            self.checkpointer,
            self.cfg.SOLVER.CHECKPOINT_PERIOD,
            CHECKPOINTS_KEPT,
            minutes=self._train.checkpoint_minutes,
            interruption=self._interruption,
        )
        return [*result, checkpoints]  # the last, since it may end the training

    def build_writers(self) -> list[Any]:
        """metrics.json, TensorBoard events and log lines as Detectron2 has them, and metrics.jsonl."""
        return [*super().build_writers(), self.records]

    @property
    def untrained(self) -> dict[int, str]:
        """annotation id -> why no cell predicted the object, of this process."""
        loader = self.data_loader
        return loader.untrained if isinstance(loader, CheckedLoader) else {}

    def _evaluate(self) -> dict[str, Any]:
        self._last_eval_results = self.test(self.cfg, self.model)
        return self._last_eval_results

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> CheckedLoader:
        """Batches from the first iteration on."""
        return train_loader(cfg, 0)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        """Photographs resized as `predict` does."""
        return build_detection_test_loader(cfg, dataset_name, mapper=MaskMapper.from_cfg(cfg, is_train=False))

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> COCOEvaluator:
        """Mask and box AP."""
        folder = str(Path(cfg.OUTPUT_DIR) / INFERENCE)
        return COCOEvaluator(dataset_name, tasks=("bbox", "segm"), output_dir=folder, use_fast_impl=False)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """See `solver.build_optimizer`."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
        """See `solver.build_lr_scheduler`."""
        return build_lr_scheduler(cfg, optimizer)
