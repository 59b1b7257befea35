"""Making shards on a Ray cluster: the workers make them, this process writes them and shows one bar."""

import time
from collections import defaultdict
from collections.abc import Sequence

from tqdm import tqdm

from sapnet_pipe.data.bag_store.writer import BagWriter
from sapnet_pipe.stages.bags.background import InBackground
from sapnet_pipe.stages.bags.failures import FailureBudget
from sapnet_pipe.stages.bags.progress import Rates, rates
from sapnet_pipe.stages.bags.ray_workers import worker_pool
from sapnet_pipe.stages.bags.tasks import ShardTask, kept_of
from sapnet_pipe.stages.bags.worker import BagJob


def make_on_ray(
    job: BagJob, tasks: Sequence[ShardTask], writer: BagWriter, budget: FailureBudget, *, quiet: bool
) -> Rates:
    """Make the shards on the cluster of `job.config.ray`; the store's bytes are those of `make_here`.

    Every machine needs the images at the same path, and the checkpoint, or a network to download it.

    Raises: UserError as `make_here`, and if Ray is missing or cannot be reached.
    """
    started, fingerprint = time.monotonic(), writer.identity.fingerprint()
    parts: dict[str, float] = defaultdict(float)
    images = sum(len(task.image_ids) for task in tasks)
    with (
        worker_pool(job, fingerprint, len(tasks)) as pool,
        tqdm(total=images, desc=f"bags ({len(pool)} workers)", unit="img", disable=quiet) as bar,
        InBackground(2) as background,
    ):
        for done in pool.make(tasks, lambda task: kept_of(task, writer), budget.tolerates):
            background.check()
            if done is None:
                continue
            task, made = done
            budget.add(made.failures)
            for name, seconds in made.seconds.items():
                parts[name] += seconds / len(pool)
            background.put(writer.add_encoded, task.index, made.content)
            bar.update(len(task.image_ids))
    return rates(images, time.monotonic() - started, parts)
