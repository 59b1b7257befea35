"""Pictures of an ablation: the objects on which its rows differ most, as the paper's figures 5 to 7 show them."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.coco.instances import InstanceDataset, read_instances, read_truth
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.ablate.inputs import Inputs
from sapnet_pipe.pipeline.ablate.results import plan_file, read_plan
from sapnet_pipe.pipeline.ablate.tasks import result_of
from sapnet_pipe.pipeline.pictures.choices import SAM, contrasts_of
from sapnet_pipe.pipeline.pictures.contrasts import draw_contrasts, under
from sapnet_pipe.stages.training.run_files import PSEUDO_LABELS


def draw_rows(out: Path, name: str, sets: Mapping[str, Inputs], draw: Path, *, quiet: bool) -> list[str]:
    """Draw the rows of a finished ablation into the new folder `draw`; of several seeds and sets the first of each.

    ``sam-top1.png`` (figure 5) shows SAM's own choice beside the last row's, ``alone.png`` (figure 6) the first row's
    beside the last one's where no other click of the category is near, ``neighbours.png`` (figure 7) the same where
    one is, and ``rows.png`` all rows.

    Returns: a line on what was drawn.
    """
    plan = read_plan(plan_file(out, name))
    set_name, inputs = next(iter(sets.items()))
    labels: dict[str, InstanceDataset] = {}
    for run in plan.runs:
        folder = out / "runs" / run.select
        if run.set == set_name and run.variant not in labels and result_of(folder) is not None:
            labels[run.variant] = read_instances(folder / PSEUDO_LABELS)
    if not labels:
        return ["no run is finished, so nothing was drawn."]
    first, last = next(iter(labels)), list(labels)[-1]
    truth = None if inputs.truth is None else read_truth(inputs.truth)
    store = BagStore.open(inputs.bags["all"])
    every = list(contrasts_of(store, labels, truth))
    figures = {
        "sam-top1": [under(found, SAM, last) for found in every],
        "alone": [under(found, first, last) for found in every if not found.near],
        "neighbours": [under(found, first, last) for found in every if found.near],
        "rows": [under(found, *labels) for found in every],
    }
    if len(labels) == 1:
        figures = {"sam-top1": figures["sam-top1"]}
    source, depth, images = str(inputs.bags["all"]), store.manifest.identity.depth, inputs.images
    try:
        shown = {
            figure: draw_contrasts(draw / f"{figure}.png", some, images, source=source, depth=depth, quiet=quiet)
            for figure, some in figures.items()
        }
    except UserError:
        shutil.rmtree(draw, ignore_errors=True)  # it was new
        raise
    drawn = ", ".join(f"{figure}.png ({count} objects)" for figure, count in shown.items() if count)
    if not drawn:
        return ["the rows choose the same mask for every object, so nothing was drawn."]
    return [f"{drawn} in {draw}: where the rows differ most, those first."]
