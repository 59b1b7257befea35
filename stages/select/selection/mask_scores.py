"""What the selector says of every mask on the way to its choice, for `select --explain`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.bag_store.table import BagTable
from sapnet_pipe.data.labels.explanations import ExplainedPoints
from sapnet_pipe.stages.select.batches.bag_images import padded_index
from sapnet_pipe.stages.select.batches.select_batch import SelectBatch
from sapnet_pipe.stages.select.network.model import SelectorOutput
from sapnet_pipe.stages.select.selection.choose import Selection


@dataclass(frozen=True)
class MaskScores:
    """Of N bags, M masks per bag (padded); boxes in network pixels until they are rescaled.

    Attributes:
        psm, pdg: (N, M) float32, PSM's scores before and after guidance. prm: (N, M), or None without PRM.
        completeness: (N, M) q of `stages.select.method.completeness`, or None where that is switched off.
        psm_rule, prm_rule: (N,) int64, the mining rules; -1 without the module.
        psm_box: (N, 4) float32.
    """

    psm: NDArray[np.float32]
    pdg: NDArray[np.float32]
    prm: NDArray[np.float32] | None
    completeness: NDArray[np.float32] | None
    psm_rule: NDArray[np.int64]
    prm_rule: NDArray[np.int64]
    psm_box: NDArray[np.float32]


def mask_scores(batch: SelectBatch, output: SelectorOutput) -> MaskScores:
    """The scores of one batch, on the host."""
    masks = batch.boxes.shape[1]
    before = output.own if output.s_dis is None else output.own / output.s_dis
    rule = output.rule.cpu().numpy()
    return MaskScores(
        psm=before.cpu().numpy(),
        pdg=output.own.cpu().numpy(),
        prm=None if output.prm is None else output.prm.own[:, :masks].cpu().numpy(),
        completeness=None if output.completeness is None else output.completeness.sigmoid().cpu().numpy(),
        psm_rule=rule,
        prm_rule=np.full_like(rule, -1) if output.prm is None else output.prm.rule.cpu().numpy(),
        psm_box=output.box.cpu().numpy(),
    )


def explained(
    table: BagTable, rows: NDArray[np.int64], selection: Selection, scores: MaskScores | None
) -> ExplainedPoints:
    """Join a choice with its reasons.

    Args:
        rows: (N,) rows of the table. selection: Of these rows. scores: None for a method without modules.
    """
    index, valid = padded_index(table.offsets, rows)
    nothing = np.full(len(rows), -1, np.int64)
    no_box = np.full((len(rows), 4), np.nan, np.float32)

    def flat(values: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        return None if values is None else values[:, : valid.shape[1]][valid]

    return ExplainedPoints(
        image_id=table.image_id[rows],
        point_id=table.point_id[rows],
        category_id=table.category_id[rows],
        sizes=valid.sum(axis=1),
        sam_score=table.masks.score[index[valid]],
        psm_score=flat(scores.psm) if scores else None,
        pdg_score=flat(scores.pdg) if scores else None,
        completeness=flat(scores.completeness) if scores else None,
        prm_score=flat(scores.prm) if scores else None,
        psm_index=selection.psm_index if scores else nothing,
        psm_rule=scores.psm_rule if scores else nothing,
        psm_box=scores.psm_box if scores else no_box,
        prm_rule=scores.prm_rule if scores else nothing,
        prm_box=selection.box_prm,
        bag_index=selection.bag_index,
        runner_up=selection.runner_up,
        reassigned=selection.reassigned,
        margin=selection.margin,
        score=selection.score,
        confidence=selection.confidence,
    )
