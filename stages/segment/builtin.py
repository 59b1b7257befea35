"""The builtin engine: our own training loop on Lightning Fabric, in one process or several."""

import torch
from torch import Tensor, nn

from sapnet_pipe.data.coco.instances import InstanceDataset
from sapnet_pipe.data.evaluation.coco_ap import coco_ap
from sapnet_pipe.data.pixel_depth import Depth
from sapnet_pipe.stages.segment.batches import SegmentBatch, TrainBatches
from sapnet_pipe.stages.segment.config import LossConfig
from sapnet_pipe.stages.segment.engine import SHORTER, EngineInputs, EngineResult
from sapnet_pipe.stages.segment.results import coco_results
from sapnet_pipe.stages.segment.solov2.losses import solov2_losses
from sapnet_pipe.stages.segment.weights.model_file import save_model
from sapnet_pipe.stages.training import loop
from sapnet_pipe.stages.training.devices import train_layout
from sapnet_pipe.stages.training.distributed import current_world, gather, is_main_process, world_size
from sapnet_pipe.stages.training.run_files import MODEL


def train(inputs: EngineInputs, device: torch.device) -> EngineResult:
    """Train, write the model and measure it; all ranks train, rank 0 does the rest."""
    config, untrained = inputs.config, dict[int, str]()
    trained = loop.train(
        model=inputs.model,
        loss_fn=_Loss(config.loss, untrained),
        batch_at=TrainBatches(
            inputs.labels, config.image, config.head, config.train.batch_size, config.seed, current_world()
        ),
        config=config.train,
        out=inputs.out,
        seed=config.seed,
        device=config.device,
        resume=inputs.resume,
        quiet=inputs.quiet,
        shorter=SHORTER,
    )
    for others in gather(untrained):
        untrained |= others
    ap = None
    if is_main_process():
        save_model(inputs.out / MODEL, inputs.model, inputs.description)
        if inputs.truth is not None:
            ap = _measure(inputs, inputs.truth, device)
    return EngineResult(trained.iterations, trained.skipped_steps, trained.metrics, untrained, ap)


def _measure(inputs: EngineInputs, truth: InstanceDataset, device: torch.device) -> dict[str, dict[str, float]]:
    """COCO's figures of the trained model on all images of `truth`."""
    found = list(
        coco_results(
            inputs.model,
            list(truth.images.values()),
            inputs.val_images,
            source=truth.source,
            categories=inputs.description.categories,
            test=inputs.description.test,
            device=device,
            quiet=inputs.quiet,
            depth=Depth.parse(inputs.description.depth),
        )
    )
    return {"segm": coco_ap(truth, found, "segm"), "bbox": coco_ap(truth, found, "bbox")}


class _Loss:
    """``loss_fn`` of the training loop; remembers by id which objects no cell predicted, and why."""

    def __init__(self, config: LossConfig, untrained: dict[int, str]) -> None:
        self._weights, self._untrained = config.model_dump(), untrained

    def __call__(self, model: nn.Module, batch: SegmentBatch) -> dict[str, Tensor]:
        self._untrained.update(batch.untrained)
        predictions = model(batch.images.contiguous(memory_format=train_layout(batch.images.device)))
        losses = solov2_losses(predictions, batch.targets, **self._weights)
        pairs = world_size() * sum(len(target.cell) for target in batch.targets)
        return {**losses, "positive_pairs": losses["loss_ins"].new_tensor(pairs)}
