from pathlib import Path

import pytest
from PIL import Image

from sapnet_pipe.data.coco.instances import ImageRecord, read_instances
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.segment.labels import read_labels
from sapnet_pipe.stages.select.run import run as select
from sapnet_pipe.stages.training.failures import find_unreadable, unreadable_note
from tests.stages.segment.segment_scenes import write_scenes
from tests.stages.select.toy_store import toy_config, toy_store


@pytest.fixture
def photographs(tmp_path: Path) -> list[ImageRecord]:
    """Ten photographs, of which the third is cut in the middle of its pixels and the seventh is missing."""
    for number in range(1, 11):
        Image.effect_noise((64, 48), 90).convert("RGB").save(tmp_path / f"{number}.jpg")
    (tmp_path / "3.jpg").write_bytes((tmp_path / "3.jpg").read_bytes()[:-900])
    (tmp_path / "7.jpg").unlink()
    return [ImageRecord(number, f"{number}.jpg", 48, 64) for number in range(1, 11)]


def test_every_photograph_is_decoded_and_the_unreadable_ones_are_told(photographs: list[ImageRecord], tmp_path: Path):
    lost = find_unreadable(photographs, tmp_path, source="labels.json", rate=0.2, quiet=True)
    assert sorted(lost) == [3, 7]
    (note,) = unreadable_note(lost, 10)
    assert note.startswith("2 of 10 photographs cannot be read and are left out: ")
    assert "3.jpg" in note
    assert "there is no such image" in note
    assert unreadable_note({}, 10) == []


@pytest.mark.parametrize(
    ("rate", "message"), [(0.0, r"image 3\.file_name = .*damaged"), (0.1, r"2 of 10 images, .* 0\.1")]
)
def test_more_than_allowed_end_it(photographs: list[ImageRecord], tmp_path: Path, rate: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_unreadable(photographs, tmp_path, source="labels.json", rate=rate, quiet=True)


def test_a_selection_goes_on_without_the_points_of_unreadable_photographs(tmp_path: Path) -> None:
    store, images, truth = toy_store(tmp_path)
    (images / "2.png").write_bytes(b"no picture")
    out = tmp_path / "run"
    out.mkdir()
    summary = select(store, images, out, toy_config(max_failure_rate=0.5), truth=truth, quiet=True)
    assert summary.images_unreadable == 1
    assert "1 of 6 photographs cannot be read" in summary.notes[0]
    labels = read_instances(out / "pseudo_labels.json")
    assert summary.labels == len(labels.annotations) > 0
    assert 2 not in {annotation.image_id for annotation in labels.annotations}
    assert 2 not in labels.images


def test_a_training_goes_on_without_unreadable_photographs(tmp_path: Path) -> None:
    labels = write_scenes(tmp_path / "scenes", [2, 1, 3])
    names = sorted((labels.parent / "images").iterdir())
    names[0].write_bytes(b"")
    whole = read_labels(labels, labels.parent / "images", with_alternates=False, max_failure_rate=1.0)
    assert len(whole.images) == len(names) - 1
    assert whole.dropped["of unreadable photographs"] > 0
    assert "photographs cannot be read" in whole.notes[-1]
