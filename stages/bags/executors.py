"""The two ways of making shards: one after another in this process, or many at once on a Ray cluster.

Either way the next shards are made while the last ones are written, and the store's bytes are the same.
"""

import time
from collections import defaultdict
from collections.abc import Sequence

from sapnet_pipe.data.bag_store.writer import BagWriter
from sapnet_pipe.data.progress import progress_bar
from sapnet_pipe.stages.bags.background import InBackground
from sapnet_pipe.stages.bags.progress import Rates, rates
from sapnet_pipe.stages.bags.ray_workers import worker_pool
from sapnet_pipe.stages.bags.tasks import Kept, ShardTask, encode_task, kept_of
from sapnet_pipe.stages.bags.worker import BagJob, BagWorker, ShardResult
from sapnet_pipe.stages.training.failures import FailureBudget

_KEEP_SECONDS = 60.0


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

    def write(task: ShardTask, kept: Kept, result: ShardResult) -> None:
        writer.add_encoded(task.index, encode_task(task, kept, result, job.points, fingerprint))

    def keep(task: ShardTask, kept: Kept, result: ShardResult) -> None:
        """Write what is finished of a shard, so that an interruption costs no more than the image in hand."""
        if result.finished and task.index in writer.missing:
            writer.keep_unfinished(task.index, encode_task(task, kept, result, job.points, fingerprint))

    with (
        progress_bar(total=images, desc="bags", unit="img", quiet=quiet) as bar,
        InBackground(1, finish=True) as background,
    ):
        for task in tasks:
            kept, result, saved = kept_of(task, writer), ShardResult(), time.monotonic()

            def on_image(task: ShardTask = task, kept: Kept = kept, result: ShardResult = result) -> None:
                nonlocal saved
                bar.update()
                background.check()
                if time.monotonic() - saved > _KEEP_SECONDS:
                    keep(task, kept, result)
                    saved = time.monotonic()

            try:
                worker.make_shard(task.image_ids, result=result, on_image=on_image, tolerate=budget.tolerates)
            except BaseException:
                keep(task, kept, result)
                raise
            budget.add(result.failures)
            for name, seconds in result.seconds.items():
                parts[name] += seconds
            background.put(write, task, kept, result)
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
