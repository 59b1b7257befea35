"""The demo in small: every stage runs on rendered scenes and the promised files and figures are there."""

from pathlib import Path

import pytest

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import read_json
from sapnet_pipe.pipeline.demo.run import demo_table, run_demo
from sapnet_pipe.pipeline.demo.settings import DemoSettings

SMALL = DemoSettings(train_scenes=4, test_scenes=2, pictures=1, select_iterations=2, segment_iterations=2)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("demo") / "run"
    return out, dict(run_demo(out, SMALL, quiet=True).result)


def test_the_result_has_the_promised_keys(demo: tuple[Path, dict]) -> None:
    _, result = demo
    choices = ["sam_top1", "largest", "token_1", "token_2", "token_3", "oracle", "single_mil", "sapnet"]
    assert sorted(result["miou"]) == sorted(choices)
    assert sorted(result["ap"]) == ["pseudo", "true"]
    assert all(0 <= value <= 1 for value in [*result["miou"].values(), *result["ap"].values()])
    assert result["miou"]["oracle"] >= max(result["miou"].values())
    assert result["seconds"]["total"] > 0


def test_pictures_labels_and_table_are_written(demo: tuple[Path, dict]) -> None:
    out, result = demo
    names = sorted(path.name.split("_")[0] for path in (out / "pictures").iterdir())
    assert names == ["test", "train"]
    assert (out / "table.txt").read_text() == demo_table(result)
    points = read_json(out / "points.json")["annotations"]
    labels = read_json(out / "sapnet" / "pseudo_labels.json")["annotations"]
    assert [label["id"] for label in labels] == [point["id"] for point in points]


def test_a_taken_folder_is_refused(demo: tuple[Path, dict]) -> None:
    with pytest.raises(UserError, match="taken"):
        run_demo(demo[0], SMALL, quiet=True)
