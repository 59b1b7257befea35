"""Making shards in this process, one after another."""

import time
from collections import defaultdict
from collections.abc import Sequence

from tqdm import tqdm

from sapnet_pipe.data.bag_store.writer import BagWriter
from sapnet_pipe.stages.bags.background import InBackground
from sapnet_pipe.stages.bags.failures import FailureBudget
from sapnet_pipe.stages.bags.progress import Rates, rates
from sapnet_pipe.stages.bags.tasks import ShardTask, encode_task, kept_of
from sapnet_pipe.stages.bags.worker import BagJob, BagWorker, ShardResult


def make_here(
    job: BagJob, tasks: Sequence[ShardTask], writer: BagWriter, budget: FailureBudget, *, quiet: bool
) -> Rates:
    """Make the shards; each is encoded and written while the next one is made.

    Raises: UserError for images that cannot be read, where `budget` does not allow it, and for what `BagWorker` and
        `writer` refuse.
    """
    worker = BagWorker(job, quiet=quiet)
    fingerprint = writer.identity.fingerprint()
    started = time.monotonic()
    parts: dict[str, float] = defaultdict(float)
    images = sum(len(task.image_ids) for task in tasks)

    def finish(task: ShardTask, made: ShardResult) -> None:
        content = encode_task(task, kept_of(task, writer), made, job.points, fingerprint)
        writer.add_encoded(task.index, content)

    with tqdm(total=images, desc="bags", unit="img", disable=quiet) as bar, InBackground(1, finish=True) as background:

        def on_image() -> None:
            bar.update()
            background.check()

        for task in tasks:
            made = worker.make_shard(task.image_ids, on_image=on_image, tolerate=budget.tolerates)
            budget.add(made.failures)
            for name, seconds in made.seconds.items():
                parts[name] += seconds
            background.put(finish, task, made)
    return rates(images, time.monotonic() - started, parts)
