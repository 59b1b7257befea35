"""The demo in small: every stage runs on rendered scenes and the promised files and figures are there."""

from pathlib import Path
from typing import Any

import pytest

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import read_json
from sapnet_pipe.pipeline.demo.run import demo_table, run_demo
from sapnet_pipe.pipeline.demo.settings import DemoSettings

SMALL = DemoSettings(train_scenes=4, test_scenes=2, pictures=1, select_iterations=2, segment_iterations=2)
FIXED = ["sam_top1", "largest", "token_1", "token_2", "token_3"]
Demo = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    out = tmp_path_factory.mktemp("demo") / "run"
    return out, dict(run_demo(out, SMALL, quiet=True).result)


@pytest.fixture(scope="module")
def full_demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    out = tmp_path_factory.mktemp("full_demo") / "run"
    return out, dict(run_demo(out, SMALL.model_copy(update={"full": True}), quiet=True).result)


def test_the_result_says_which_rows_were_made(demo: Demo) -> None:
    _, result = demo
    assert result["rows"] == [*FIXED, "sapnet", "oracle", "solov2_pseudo"]
    assert sorted(result["miou"]) == sorted([*FIXED, "sapnet", "oracle"])
    assert list(result["ap"]) == list(result["box_ap"]) == ["pseudo"]


def test_full_adds_the_yardsticks(full_demo: Demo) -> None:
    _, result = full_demo
    assert result["rows"] == [*FIXED, "single_mil", "sapnet", "sapnet_plus", "oracle", "solov2_pseudo", "solov2_true"]
    assert sorted(result["miou"]) == sorted([*FIXED, "single_mil", "sapnet", "sapnet_plus", "oracle"])
    assert sorted(result["ap"]) == sorted(result["box_ap"]) == ["pseudo", "true"]


@pytest.mark.parametrize("name", ["demo", "full_demo"])
def test_the_figures_are_shares_and_the_oracle_is_the_best(name: str, request: pytest.FixtureRequest) -> None:
    _, result = request.getfixturevalue(name)
    assert all(0 <= value <= 1 for value in [*result["miou"].values(), *result["ap"].values()])
    assert result["miou"]["oracle"] >= max(result["miou"].values())
    assert result["seconds"]["total"] > 0


def test_full_changes_nothing_of_what_both_make(demo: Demo, full_demo: Demo) -> None:
    for name in ("points.json", "bags/bags-00000.parquet", "bags/manifest.json"):
        assert (demo[0] / name).read_bytes() == (full_demo[0] / name).read_bytes()
    assert demo[1]["miou"].items() <= full_demo[1]["miou"].items()


@pytest.mark.parametrize("name", ["demo", "full_demo"])
def test_pictures_labels_and_table_are_written(name: str, request: pytest.FixtureRequest) -> None:
    out, result = request.getfixturevalue(name)
    names = sorted(path.name.split("_")[0] for path in (out / "pictures").iterdir())
    assert names == ["test", "train"]
    assert (out / "table.txt").read_text() == demo_table(result)
    points = read_json(out / "points.json")["annotations"]
    labels = read_json(out / "sapnet" / "pseudo_labels.json")["annotations"]
    assert [label["id"] for label in labels] == [point["id"] for point in points]


def test_rows_that_were_not_made_are_absent_from_the_table_and_said_to_be(demo: Demo, full_demo: Demo) -> None:
    for row in ("single MIL  ", "true masks  "):
        assert row not in demo_table(demo[1])
        assert row in demo_table(full_demo[1])
    assert "--full" in demo_table(demo[1])
    assert "--full" not in demo_table(full_demo[1])


def test_a_taken_folder_is_refused(demo: Demo) -> None:
    with pytest.raises(UserError, match="taken"):
        run_demo(demo[0], SMALL, quiet=True)
