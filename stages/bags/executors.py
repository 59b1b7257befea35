"""The two ways of making shards: one after another in this process, or many at once on a Ray cluster.

Either way the next shards are made while the last ones are written, and the store's bytes are the same.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from sapnet_pipe.data.bag_store.writer import BagWriter
from sapnet_pipe.data.progress import progress_bar
from sapnet_pipe.stages.bags.background import InBackground
from sapnet_pipe.stages.bags.progress import Rates, rates
from sapnet_pipe.stages.bags.ray_workers import worker_pool
from sapnet_pipe.stages.bags.tasks import Kept, ShardTask, encode_task, kept_of
from sapnet_pipe.stages.bags.worker import BagJob, BagWorker, ShardResult
from sapnet_pipe.stages.training.failures import FailureBudget

_KEEP_SECONDS = 60.0


@dataclass
class _InHand:
    """The shard that is being made, and when what is finished of it was last written."""

    task: ShardTask
    kept: Kept
    result: ShardResult = field(default_factory=ShardResult)
    kept_at: float = field(default_factory=time.monotonic)


def make_locally(
    job: BagJob, tasks: Sequence[ShardTask], writer: BagWriter, budget: FailureBudget, *, quiet: bool
) -> Rates:
    """Make the shards in this process.

    Raises: UserError for images that cannot be read, where `budget` does not allow it, and for what `BagWorker` and
        `writer` refuse.
    """
    worker = BagWorker(job, quiet=quiet)
    fingerprint = writer.identity.fingerprint()
    started = time.monotonic()
    parts: dict[str, float] = defaultdict(float)
    images = sum(len(task.image_ids) for task in tasks)

    def encoded(shard: _InHand) -> bytes:
        return encode_task(shard.task, shard.kept, shard.result, job.points, fingerprint)

    def write(shard: _InHand) -> None:
        writer.add_encoded(shard.task.index, encoded(shard))

    def keep(shard: _InHand) -> None:
        """Write what is finished of a shard, so that an interruption costs no more than the image in hand."""
        if shard.result.finished and shard.task.index in writer.missing:
            writer.keep_unfinished(shard.task.index, encoded(shard))
        shard.kept_at = time.monotonic()

    with (
        progress_bar(total=images, desc="bags", unit="img", quiet=quiet) as bar,
        InBackground(1, finish=True) as background,
    ):

        def on_image() -> None:
            bar.update()
            background.check()
            if time.monotonic() - shard.kept_at > _KEEP_SECONDS:
                keep(shard)

        for task in tasks:
            shard = _InHand(task, kept_of(task, writer))
            try:
                worker.make_shard(task.image_ids, result=shard.result, on_image=on_image, tolerate=budget.tolerates)
            except BaseException:
                keep(shard)
                raise
            budget.add(shard.result.failures)
            for name, seconds in shard.result.seconds.items():
                parts[name] += seconds
            background.put(write, shard)
    return rates(images, time.monotonic() - started, parts)


def make_on_ray(
    job: BagJob, tasks: Sequence[ShardTask], writer: BagWriter, budget: FailureBudget, *, quiet: bool
) -> Rates:
    """Make the shards on the cluster of `job.config.ray`: its workers make them, this process writes them.

    Every machine needs the images at the same path, and the checkpoint, or a network to download it.

    Raises: UserError as `make_locally`, and if Ray is missing or cannot be reached.
    """
    started, fingerprint = time.monotonic(), writer.identity.fingerprint()
    parts: dict[str, float] = defaultdict(float)
    images = sum(len(task.image_ids) for task in tasks)
    with (
        worker_pool(job, fingerprint, len(tasks)) as pool,
        progress_bar(total=images, desc=f"bags ({len(pool)} workers)", unit="img", quiet=quiet) as bar,
        InBackground(2) as background,
    ):
        for finished in pool.make(tasks, lambda task: kept_of(task, writer), budget.tolerates):
            background.check()
            if finished is None:
                continue
            task, shard = finished
            budget.add(shard.failures)
            for name, seconds in shard.seconds.items():
                parts[name] += seconds / len(pool)
            background.put(writer.add_encoded, task.index, shard.content)
            bar.update(len(task.image_ids))
    return rates(images, time.monotonic() - started, parts)
