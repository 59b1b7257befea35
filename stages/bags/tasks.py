"""What is to be done for one shard, and its bytes when that is done: in this process or on another machine."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sapnet_pipe.data.bag_store.schema import Bag, FailedImage
from sapnet_pipe.data.bag_store.writer import BagWriter, encode_bags
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.points.point_set import PointSet
from sapnet_pipe.stages.bags.failures import failed_images
from sapnet_pipe.stages.bags.worker import ShardResult


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard.

    Args:
        index: Its place in the store.
        image_ids: Images to make bags of, ascending.
        lost: image_id -> why an image cannot be read, known before the work.
        keeps: Whether the bags of the shard that are there already stay, those of other images.
    """

    index: int
    image_ids: tuple[int, ...]
    lost: Mapping[int, UserError] = field(default_factory=dict)
    keeps: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """The bags that stay in a shard, what was left out of them, and the images that failed and are not tried again."""

    bags: Sequence[Bag] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    failed: Sequence[FailedImage] = ()


def plan_tasks(
    writer: BagWriter, shards: Sequence[Sequence[int]], lost: Mapping[int, UserError], *, retry: bool, whole: bool
) -> list[ShardTask]:
    """The tasks of a run, in order.

    Args:
        shards: The image ids of every shard of the store.
        lost: Images that cannot be read.
        retry: Try failed images of the shards that are there again.
        whole: Make all of their shard again: several images are encoded at once, and the bits of one depend on its
            company. What is there of a shard that is not finished ends where such a company does.
    """
    again = writer.failed if retry else {}
    missing = set(writer.missing)
    tasks = []
    for index in sorted({*missing, *again}):
        retried = {image.image_id for image in again.get(index, ())}
        until = writer.begun_until(index) if index in missing else shards[index][-1]
        if until is None or (whole and retried):
            keeps, image_ids = False, list(shards[index])
        else:
            keeps, image_ids = True, [number for number in shards[index] if number in retried or number > until]
        found = tuple(image_id for image_id in image_ids if image_id not in lost)
        missed = {image_id: lost[image_id] for image_id in image_ids if image_id in lost}
        tasks.append(ShardTask(index, found, missed, keeps))
    return tasks


def kept_of(task: ShardTask, writer: BagWriter) -> Kept:
    """What stays in the task's shard."""
    if not task.keeps:
        return Kept()
    bags, label = writer.read_bags(task.index)
    tried = {*task.image_ids, *task.lost}
    return Kept(bags, label.dropped, [image for image in label.failed if image.image_id not in tried])


def encode_task(task: ShardTask, kept: Kept, result: ShardResult, points: PointSet, fingerprint: str) -> bytes:
    """The bytes of the shard, from what stays in it and what a worker made of the task's images.

    If the worker did not come to their end, these are the bytes of an unfinished shard: of the images that it finished.
    """
    bags = sorted([*kept.bags, *result.bags], key=lambda bag: (bag.image_id, bag.point_id))
    dropped = Counter(kept.dropped)
    dropped.update(result.dropped)
    failures = {**task.lost, **result.failures}
    if result.finished < len(task.image_ids):
        done = task.image_ids[result.finished - 1] if result.finished else -math.inf
        failures = {image_id: error for image_id, error in failures.items() if image_id <= done}
    failed = [*kept.failed, *failed_images(failures, points)]
    return encode_bags(task.index, bags, dropped, failed, fingerprint)


def wanted_shards(part: str, shards: int) -> range:
    """The shards of part ``K/N``: the K-th of N runs of consecutive shards that together are all of them.

    Raises: UserError if `part` is not K/N with 1 <= K <= N, or there are fewer shards than parts.
    """
    match = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,8})", part)
    if match is None or int(match[1]) > int(match[2]):
        raise UserError("settings", "part", part, "which is not K/N with K from 1 to N", "Give for example part=2/8")
    place, count = int(match[1]), int(match[2])
    if count > shards:
        hint = f"Make at most {shards} parts, or lower shard_images in all of them"
        raise UserError("settings", "part", part, f"but there are only {shards} shards to share out", hint)
    return range((place - 1) * shards // count, place * shards // count)
