"""How sure the rows of an ablation are: errors over photographs, and over sets of scenes, from the objects of each run.

The seeds of a row are averaged per object first, so that what is resampled is the photographs alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from statistics import stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.evaluation.bootstrap import bootstrap_mean, sign_flip_test
from sapnet_pipe.data.evaluation.mask_quality import ObjectOverlaps
from sapnet_pipe.data.evaluation.object_table import ObjectTable

_OF_TRAINING = {"chosen", "psm"}  # of one seed alone; the others are the same for all
STRATA = ("in_group", "alone", "small", "crowded")


@dataclass(frozen=True)
class Covered:
    """The objects of one set: what they are, and how well a row covers each, as the mean over its seeds.

    Attributes:
        objects: With `iou` (N,) of the row. rules: (N,) IoU of the choices without training, by name.
    """

    objects: ObjectOverlaps
    rules: Mapping[str, NDArray[np.float64]]

    @property
    def iou(self) -> NDArray[np.float64]:
        """(N,) of the row."""
        return self.objects.iou

    def among(self, stratum: str) -> NDArray[np.bool_]:
        """(N,) which objects are of one of `STRATA`."""
        return ~self.objects.in_group if stratum == "alone" else np.asarray(getattr(self.objects, stratum))

    def only(self, places: NDArray[Any]) -> "Covered":
        """Some of the objects."""
        columns = {name: getattr(self.objects, name)[places] for name in self.objects.__dataclass_fields__}
        return Covered(ObjectOverlaps(**columns), {name: iou[places] for name, iou in self.rules.items()})


def covered_by(tables: Sequence[ObjectTable]) -> Covered | None:
    """The runs of a row with different seeds on one set, over the objects that all of them have."""
    if not tables:
        return None
    every = [Covered(table.objects, table.iou) for table in tables]
    ids = reduce(np.intersect1d, [of.objects.object_id for of in every])
    every = [of.only(_places(of, ids)) for of in every]
    mean = np.mean([of.iou for of in every], axis=0)
    return Covered(replace(every[0].objects, iou=mean), every[0].rules)


def row_evidence(sets: Mapping[str, Covered]) -> dict[str, Any]:
    """The mean IoU of a row with its errors, over all objects and by stratum.

    Of several sets ``miou`` is the mean over the sets, each counting alike; a stratum is that of all their objects.

    Returns: ``miou``, ``rules`` by name and each of `STRATA` that has objects, as dictionaries of `_spread`; ``sets``,
        the same of each set alone where there are several.
    """
    strata = {}
    for stratum in STRATA:
        chosen = [of.only(of.among(stratum)) for of in sets.values()]
        found = bootstrap_mean(np.concatenate([of.iou for of in chosen]), _photographs(chosen))
        if found is not None:
            strata[stratum] = {"count": sum(len(of.iou) for of in chosen), **_rounded(found._asdict())}
    rules = set.intersection(*(set(of.rules) for of in sets.values())) - _OF_TRAINING if sets else set()
    return {
        "miou": _spread({name: (of.iou, of) for name, of in sets.items()}),
        "rules": {rule: _spread({name: (of.rules[rule], of) for name, of in sets.items()}) for rule in sorted(rules)},
        **strata,
    }


def step_evidence(row: Mapping[str, Covered], other: Mapping[str, Covered]) -> dict[str, Any] | None:
    """The difference of two rows over the objects of both, with its errors, and a paired test.

    Returns: as `_spread`, with ``p`` of `sign_flip_test` over the photographs and ``sets_up``, in how many sets it is
        positive; None without a set that both have.
    """
    pairs = {}
    for name in row:
        if name in other:
            ids = np.intersect1d(row[name].objects.object_id, other[name].objects.object_id)
            a, b = (of.only(_places(of, ids)) for of in (row[name], other[name]))
            pairs[name] = a.iou - b.iou, a
    pairs = {name: pair for name, pair in pairs.items() if len(pair[0])}
    if not pairs:
        return None
    every = sum(len(difference) for difference, _ in pairs.values())
    # Every set counts alike, however many objects it has.
    scaled = [difference * (every / (len(pairs) * len(difference))) for difference, _ in pairs.values()]
    p = sign_flip_test(np.concatenate(scaled), _photographs([of for _, of in pairs.values()]))
    up = sum(float(difference.mean()) > 0 for difference, _ in pairs.values())
    return _spread(pairs) | {"p": None if p is None else round(p, 6), "sets_up": up}


def _spread(sets: Mapping[str, tuple[NDArray[np.float64], Covered]]) -> dict[str, Any]:
    """A mean over sets of values per object.

    Returns: ``mean``; ``error`` over the photographs within the sets; ``low`` and ``high`` of 95 % by it;
        ``sets_error`` over the sets, None of one; ``sets``, each one's mean and error, where there are several.
    """
    found = {name: bootstrap_mean(values, of.objects.image_id) for name, (values, of) in sets.items()}
    known = {name: estimate for name, estimate in found.items() if estimate is not None}
    if len(known) == 1:
        (estimate,) = known.values()
        return _rounded(estimate._asdict()) | {"sets_error": None}
    means = [estimate.mean for estimate in known.values()]
    errors = [estimate.error for estimate in known.values()]
    mean = sum(means) / len(means) if means else math.nan
    error = None
    if errors and all(of is not None for of in errors):
        error = math.sqrt(sum(of**2 for of in errors if of is not None)) / len(errors)
    interval = (None, None) if error is None else (mean - 1.96 * error, mean + 1.96 * error)
    return _rounded({"mean": mean, "error": error, "low": interval[0], "high": interval[1],
                     "sets_error": stdev(means) / math.sqrt(len(means)) if len(means) > 1 else None}) | {
        "sets": {name: _rounded(estimate._asdict()) for name, estimate in known.items()}
    }  # fmt: skip


def _places(of: Covered, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the objects of these ids (sorted, all there) stand."""
    order = np.argsort(of.objects.object_id, kind="stable")
    return np.asarray(order[np.searchsorted(of.objects.object_id[order], ids)])


def _photographs(sets: Sequence[Covered]) -> NDArray[np.int64]:
    """A number for the photograph of every object; those of different sets differ."""
    numbered, first = [np.zeros(0, np.int64)], 0
    for of in sets:
        known, place = np.unique(of.objects.image_id, return_inverse=True)
        numbered.append(place + first)
        first += len(known)
    return np.concatenate(numbered)


def _rounded(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 6) for name, value in values.items()}
