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
from sapnet_pipe.stages.bags.tasks import ShardTask, encode_task, kept_of
from sapnet_pipe.stages.bags.worker import BagJob, BagWorker, ShardResult
from sapnet_pipe.stages.training.failures import FailureBudget


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

    def write(task: ShardTask, result: ShardResult) -> None:
        content = encode_task(task, kept_of(task, writer), result, job.points, fingerprint)
        writer.add_encoded(task.index, content)

    with (
        progress_bar(total=images, desc="bags", unit="img", quiet=quiet) as bar,
        InBackground(1, finish=True) as background,
    ):

        def on_image() -> None:
            bar.update()
            background.check()

        for task in tasks:
            result = worker.make_shard(task.image_ids, on_image=on_image, tolerate=budget.tolerates)
            budget.add(result.failures)
            for name, seconds in result.seconds.items():
                parts[name] += seconds
            background.put(write, task, result)
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
