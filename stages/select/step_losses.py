"""The losses of one training step of the selector."""

from torch import Tensor, nn

from stages.processes import own_share
from stages.select.completeness import completeness_loss, completeness_target
from stages.select.config import SelectConfig
from stages.select.losses import negative_loss, prm_loss, psm_loss
from stages.select.model import SelectorOutput
from stages.select.select_batch import SelectBatch


class StepLosses:
    """``loss_fn`` for `stages.training.train`: weighted losses, and the share of bags of the right class.

    All are divided by the bags of the whole batch over the number of processes, so that their mean over the processes
    is the value of the whole batch.
    """

    def __init__(self, config: SelectConfig) -> None:
        self.config = config

    def __call__(self, net: nn.Module, batch: SelectBatch) -> dict[str, Tensor]:
        output: SelectorOutput = net(batch)
        bag = output.scores.sum(dim=1)  # (N, C + 1)
        bags = batch.whole.bags / own_share().count
        values = {
            "loss_psm": self.config.psm_weight * psm_loss(output.scores, batch.class_index, batch.valid, num_bags=bags),
            "bag_accuracy": (bag.argmax(dim=1) == batch.class_index).sum() / bags,
        }
        weights = output.own.sum(dim=1).detach()
        if output.completeness is not None:
            chosen = output.box if output.prm is None else output.prm.box
            wanted = completeness_target(batch.boxes, chosen, self.config.completeness.target)
            loss = completeness_loss(output.completeness, wanted, batch.valid, weights, bags)
            values["loss_completeness"] = self.config.completeness.weight * loss
        if output.prm is not None:
            positive = prm_loss(output.prm.scores, batch.class_index, output.prm.valid, weights, bags)
            values["loss_prm"] = self.config.prm.positive_weight * positive
            if self.config.negatives.enabled:
                logits = output.prm.negative_logits
                negative = negative_loss(logits, logits.new_ones(len(logits)), bags)
                values["loss_negative"] = self.config.prm.negative_weight * negative
        return values
