"""What the errors of a row and of a step rest on: objects, photographs, sets."""

from pathlib import Path

import numpy as np
import pytest

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.evaluation.mask_quality import ObjectOverlaps
from sapnet_pipe.data.evaluation.object_table import ObjectTable, read_object_table, write_object_table
from sapnet_pipe.pipeline.ablate.evidence import STRATA, Covered, covered_by, row_evidence, step_evidence


def table(iou: list[float], *, ids: list[int] | None = None, photographs: list[int] | None = None) -> ObjectTable:
    """Objects of which the first is small, the second in a group and in a crowd."""
    count = len(iou)
    objects = ObjectOverlaps(
        object_id=np.array(ids or range(count)),
        image_id=np.array(photographs or range(count)),
        iou=np.array(iou),
        area=np.array([1023, *[1024] * (count - 1)]),
        touching=np.array([1, 2, *[0] * (count - 2)]),
        in_group=np.array([False, True, *[False] * (count - 2)]),
    )
    return ObjectTable(objects, {"chosen": objects.iou, "oracle": np.ones(count)})


def covered(*tables: ObjectTable) -> Covered:
    found = covered_by(tables)
    assert found is not None
    return found


def test_the_seeds_of_a_row_are_averaged_by_object_over_those_that_all_have() -> None:
    found = covered(table([0.2, 0.4, 0.6], ids=[7, 3, 5]), table([0.8, 0.0, 0.3, 0.5], ids=[3, 9, 5, 7]))
    assert found.objects.object_id.tolist() == [3, 5, 7]
    assert found.iou.tolist() == pytest.approx([0.6, 0.45, 0.35])


def test_a_row_has_its_strata_and_the_choices_without_training() -> None:
    found = row_evidence({"": covered(table([0.2, 0.4, 0.6, 0.8]))})
    assert found["miou"]["mean"] == pytest.approx(0.5)
    assert found["miou"]["error"] == pytest.approx(np.std([0.2, 0.4, 0.6, 0.8]) / 2, abs=0.01)
    assert found["rules"].keys() == {"oracle"}, "what needs a training is a row's own figure"
    assert found["rules"]["oracle"]["mean"] == 1
    assert {name: (found[name]["count"], found[name]["mean"]) for name in STRATA} == {
        "in_group": (1, 0.4), "alone": (3, pytest.approx(0.533333)), "small": (1, 0.2), "crowded": (1, 0.4),
    }  # fmt: skip
    assert found["crowded"]["error"] is None, "one photograph has no error"


def test_every_set_counts_alike_and_has_an_error_of_its_own() -> None:
    sets = {"a": covered(table([0.0, 1.0])), "b": covered(table([0.5] * 6))}
    found = row_evidence(sets)["miou"]
    assert found["mean"] == 0.5
    assert found["sets"]["b"] == {"mean": 0.5, "error": 0.0, "low": 0.5, "high": 0.5}
    assert found["error"] == pytest.approx(found["sets"]["a"]["error"] / 2, abs=1e-6)
    assert found["sets_error"] == 0.0


def test_a_step_is_paired_by_object_and_tested_over_photographs_and_sets() -> None:
    low, high = [0.1, 0.5, 0.9, 0.3] * 5, [0.2, 0.6, 1.0, 0.4] * 5
    one = {"a": covered(table(low)), "b": covered(table(low)), "c": covered(table(high))}
    other = {"a": covered(table(high)), "b": covered(table(high)), "c": covered(table(low))}
    step = step_evidence(other, one)
    assert step is not None
    assert step["mean"] == pytest.approx(0.1 / 3, abs=1e-6)
    assert step["error"] == pytest.approx(0.0, abs=1e-6), "every object of a set differs by the same"
    assert step["sets_error"] == pytest.approx(0.2 / 3, abs=1e-6)
    assert step["sets_up"] == 2
    assert 0 < step["p"] < 0.05
    same = step_evidence(one, one)
    assert same is not None
    assert (same["mean"], same["p"], same["sets_up"]) == (0, 1.0, 0)
    assert step_evidence(one, {}) is None


def test_a_table_of_objects_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = table([0.25, 0.5, 0.75])
    best = ObjectOverlaps(**{**vars(made.objects), "iou": np.ones(3)})
    write_object_table(tmp_path / "objects.parquet", {"oracle": best, "chosen": made.objects})
    found = read_object_table(tmp_path / "objects.parquet")
    assert {name: values.tolist() for name, values in found.iou.items()} == {
        "chosen": [0.25, 0.5, 0.75], "oracle": [1, 1, 1],
    }  # fmt: skip
    assert all(np.array_equal(value, vars(made.objects)[name]) for name, value in vars(found.objects).items())
    (tmp_path / "objects.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="not a table of objects"):
        read_object_table(tmp_path / "objects.parquet")
