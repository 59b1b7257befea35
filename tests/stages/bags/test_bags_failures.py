import json

import pytest
from PIL import Image

from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.bags.failures import failed_images
from sapnet_pipe.stages.bags.inspect import inspect
from sapnet_pipe.stages.bags.run import run
from sapnet_pipe.stages.bags.sam import options as speed
from sapnet_pipe.stages.bags.verify import verify
from sapnet_pipe.stages.training.failures import FailureBudget

pytestmark = pytest.mark.usefixtures("brightness_sam")


@pytest.fixture
def make(tmp_path, points, images_dir, config):
    """Run stage one on the six images 11, 14, ... 26, two a shard, into a folder of that name."""

    def make(name="bags", **changes):
        return run(points, images_dir, tmp_path / name, config.model_copy(update=changes), quiet=True)

    return make


@pytest.fixture
def spoil(images_dir):
    """Spoil images by number, and fix them again."""
    whole = {path.name: path.read_bytes() for path in images_dir.iterdir()}

    def spoil(*places, how="truncated"):
        for name, content in whole.items():
            (images_dir / name).write_bytes(content)
        for place in places:
            path = images_dir / f"{9 - place}.png"
            if how == "missing":
                path.unlink()
            else:
                Image.open(path).save(path, "JPEG")  # of a PNG the header's reader would notice already
                path.write_bytes(path.read_bytes()[:900])

    return spoil


def _bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("how", ["truncated", "missing"])
def test_unreadable_images_are_recorded_and_the_others_are_as_ever(tmp_path, make, spoil, how):
    make("whole")
    spoil(1, 3, how=how)
    summary = make(max_failure_rate=0.5)
    store = BagStore.open(tmp_path / "bags")
    assert (summary.failed_images, summary.images, summary.points) == (2, 4, 8)
    failed = store.manifest.failed
    assert [(image.image_id, image.file_name, image.points) for image in failed] == [(14, "8.png", 2), (20, "6.png", 2)]
    assert ("damaged" if how == "truncated" else "no such image") in failed[0].reason
    whole = dict(BagStore.open(tmp_path / "whole").iter_masks())
    assert dict(store.iter_masks()) == {key: masks for key, masks in whole.items() if key not in (14, 20)}
    assert verify(tmp_path / "bags", quiet=True).failed_images == 2
    assert inspect(tmp_path / "bags", quiet=True).failed_images == 2
    assert json.loads((tmp_path / "bags" / "manifest.json").read_text())["failed"][0]["image_id"] == 14


@pytest.mark.parametrize("how", ["truncated", "missing"])
def test_a_retry_makes_only_what_failed_and_ends_as_if_nothing_had(tmp_path, make, spoil, monkeypatch, how):
    make("whole")
    spoil(1, 2, 3, how=how)  # of the second shard nothing is left
    make(max_failure_rate=0.5)
    spoil()
    read = _spy_on_images(monkeypatch)
    summary = make(retry_failed=True)
    assert sorted(read) == [14, 17, 20]
    assert (summary.failed_images, summary.shards_made) == (0, 2)
    assert _bytes_of(tmp_path / "bags") == _bytes_of(tmp_path / "whole")


def test_images_encoded_together_are_all_made_again(tmp_path, make, spoil, monkeypatch):
    spoil(1)
    make(max_failure_rate=0.5)
    spoil()
    monkeypatch.setattr(speed, "encode_batch", lambda *_: 4)
    read = _spy_on_images(monkeypatch)
    make(retry_failed=True)
    assert sorted(read) == [11, 14]


def test_images_that_fail_again_stay_recorded_and_the_store_stays_whole(tmp_path, make, spoil):
    spoil(1, 3)
    make(max_failure_rate=0.5)
    spoil(3)
    assert make(retry_failed=True).failed_images == 1
    before = _bytes_of(tmp_path / "bags")
    assert make(retry_failed=True).failed_images == 1
    assert _bytes_of(tmp_path / "bags") == before
    verify(tmp_path / "bags", quiet=True)


def test_a_retry_without_failures_changes_nothing(tmp_path, make):
    make()
    before = _bytes_of(tmp_path / "bags")
    assert make(retry_failed=True).already_complete
    assert _bytes_of(tmp_path / "bags") == before


def test_too_many_failures_stop_the_run_before_sam_where_they_can_be_seen(tmp_path, make, spoil, monkeypatch):
    spoil(1, 2, 3, how="missing")
    monkeypatch.setattr("sapnet_pipe.stages.bags.worker.load_sam", None)
    with pytest.raises(UserError, match=r"3 of 6 images, are unreadable, more than --max-failure-rate 0.4"):
        make(max_failure_rate=0.4)
    assert not (tmp_path / "bags").exists()


def test_too_many_failures_stop_the_run_and_it_goes_on_with_a_higher_rate(tmp_path, make, spoil):
    spoil(1, 3)
    with pytest.raises(UserError, match=r"2 of 6 images, are unreadable, more than --max-failure-rate 0.2"):
        make(max_failure_rate=0.2)
    assert sorted(_bytes_of(tmp_path / "bags")) == ["bags-00000.parquet", "manifest.partial.json"]
    assert make(max_failure_rate=0.5).failed_images == 2
    make("at-once", max_failure_rate=0.5)
    assert _bytes_of(tmp_path / "bags") == _bytes_of(tmp_path / "at-once")


def test_an_interrupted_run_with_failures_does_not_go_on_without_being_told(tmp_path, make, spoil):
    spoil(1, 3)
    with pytest.raises(UserError):
        make(max_failure_rate=0.2)
    spoil()
    with pytest.raises(UserError, match=r"failed = 1 of 6, could not be read before, first 8.png .*--retry-failed"):
        make()
    assert make(retry_failed=True).failed_images == 0
    make("whole")
    assert _bytes_of(tmp_path / "bags") == _bytes_of(tmp_path / "whole")


def test_a_finished_store_with_failures_is_left_as_it_is(tmp_path, make, spoil):
    spoil(1)
    make(max_failure_rate=0.5)
    spoil()
    before = _bytes_of(tmp_path / "bags")
    summary = make()
    assert (summary.already_complete, summary.failed_images) == (True, 1)
    assert _bytes_of(tmp_path / "bags") == before


def test_a_retry_that_is_killed_can_go_on(tmp_path, make, spoil, monkeypatch):
    make("whole")
    spoil(1, 3)
    make(max_failure_rate=0.5)
    spoil()
    with monkeypatch.context() as patch:
        patch.setattr("sapnet_pipe.data.bag_store.writer.BagWriter.finish", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            make(retry_failed=True)
    make()
    assert _bytes_of(tmp_path / "bags") == _bytes_of(tmp_path / "whole")


@pytest.mark.parametrize(
    ("rate", "images", "allowed"), [(0, 100, 0), (0.01, 99, 0), (0.01, 100, 1), (0.07, 100, 7), (1, 3, 3)]
)
def test_the_budget_is_the_share_rounded_down(rate, images, allowed, points):
    budget = FailureBudget(rate, images)
    error = UserError("points.json", "images", "x.jpg", "which is damaged", "Fix it")
    for image_id in range(allowed):
        budget.add({image_id: error})
    with pytest.raises(UserError):
        budget.add({allowed: error})


def test_a_record_names_file_points_and_reason_but_no_path_of_this_machine(points):
    error = UserError("/home/me/points.json", "images", "/home/me/8.png", "which is damaged", "Fix it")
    (record,) = failed_images({14: error}, points)
    assert (record.file_name, record.points, record.reason) == ("8.png", 2, "which is damaged")


def _interrupt(*_):
    raise KeyboardInterrupt


def _spy_on_images(monkeypatch):
    """The ids of the images that a worker reads from now on."""
    from sapnet_pipe.stages.bags.worker import BagWorker

    read, original = [], BagWorker._prepare

    def prepare(worker, image_id):
        read.append(image_id)
        return original(worker, image_id)

    monkeypatch.setattr(BagWorker, "_prepare", prepare)
    return read
