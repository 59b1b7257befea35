import pickle

import pytest

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.bags.failures import find_images
from sapnet_pipe.stages.bags.worker import BagJob, BagWorker

quick = pytest.mark.usefixtures("brightness_sam")


@pytest.fixture
def job(points, images_dir, config) -> BagJob:
    return BagJob(points, find_images(points, images_dir, quiet=True), config)


def _keys(result):
    return [(bag.image_id, bag.point_id) for bag in result.bags]


def _counts(result):
    return [bag.masks.rle for bag in result.bags]


@quick
def test_a_job_that_travelled_gives_the_same_bags(job):
    here, there = BagWorker(job), BagWorker(pickle.loads(pickle.dumps(job)))
    assert _counts(here.make_shard([14, 17])) == _counts(there.make_shard([14, 17]))


@quick
def test_a_shard_does_not_depend_on_the_shards_made_before(job):
    fresh, used = BagWorker(job), BagWorker(job)
    used.make_shard([11, 14])
    assert _counts(used.make_shard([17, 20])) == _counts(fresh.make_shard([17, 20]))


@quick
def test_the_bags_of_a_shard_are_sorted_and_every_image_is_announced(job):
    seen: list[None] = []
    result = BagWorker(job).make_shard([11, 14], on_image=lambda: seen.append(None))
    assert _keys(result) == [(11, 1000), (11, 1001), (14, 990), (14, 991)]
    assert (len(seen), result.failures) == (2, {})


@quick
def test_an_image_that_cannot_be_read_ends_the_shard_or_is_collected(job, images_dir):
    (images_dir / "8.png").write_bytes(b"")
    worker = BagWorker(job)
    with pytest.raises(UserError, match=r"images\[id=14\]"):
        worker.make_shard([11, 14, 17])
    result = worker.make_shard([11, 14, 17], tolerate=True)
    assert {image_id for image_id, _ in _keys(result)} == {11, 17}
    assert list(result.failures) == [14]
    assert "images[id=14]" in str(result.failures[14])
