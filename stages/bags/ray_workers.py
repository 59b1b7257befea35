"""Ray behind a few functions: a cluster, workers on it, and the shards that they hand back. Only this file imports it.

A worker that dies, or whose machine does, is replaced, and its shards are made again. Every worker computes with as
many threads as the process that started it, so that the bits do not depend on who made a shard.
"""

import logging
import os
import socket
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.bags.config import BagsConfig
from sapnet_pipe.stages.bags.sam.checkpoints import checkpoint_sha256
from sapnet_pipe.stages.bags.tasks import Kept, ShardTask, encode_task
from sapnet_pipe.stages.bags.worker import BagJob, BagWorker

_DEATHS = 10  # of workers on one shard, after which it is no accident
_AHEAD = 2  # shards in a worker's hands, so that none waits for the next
_LOOK_SECONDS, _ANSWER_SECONDS = 1.0, 20.0


@dataclass(frozen=True)
class EncodedShard:
    """A shard's bytes, why images of it could not be read, and what its worker waited for."""

    content: bytes
    failures: Mapping[int, UserError]
    seconds: Mapping[str, float]


class ShardMaker:
    """What runs in a worker's process."""

    def __init__(self, job: BagJob, fingerprint: str, weights_sha256: str, threads: int) -> None:
        self._job, self._fingerprint, self._weights, self._threads = job, fingerprint, weights_sha256, threads
        self._worker: BagWorker | None = None

    def make(self, task: ShardTask, kept: Kept, tolerate: bool) -> EncodedShard:
        """Make one shard; the first call loads SAM.

        Raises: UserError as `BagWorker`, and if this machine has other weights than the one that started it.
        """
        result = self._loaded().make_shard(task.image_ids, tolerate=tolerate)
        content = encode_task(task, kept, result, self._job.points, self._fingerprint)
        return EncodedShard(content, result.failures, result.seconds)

    def _loaded(self) -> BagWorker:
        if self._worker is None:
            torch.set_num_threads(self._threads)
            config = self._job.config
            found = checkpoint_sha256(config.sam, config.checkpoint)
            if found != self._weights:
                problem = f"but the run has {self._weights}"
                raise UserError(str(config.checkpoint), "sha256", found, problem, "Give all machines one file")
            self._worker = BagWorker(self._job, quiet=True)
        return self._worker


class WorkerPool:
    """Workers on a Ray cluster. Get one from `worker_pool`."""

    def __init__(self, ray: Any, start: Callable[[], Any], count: int) -> None:
        self._ray, self._start = ray, start
        self._workers = {place: start() for place in range(count)}
        self._deaths: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._workers)

    def make(
        self, tasks: Sequence[ShardTask], kept_of: Callable[[ShardTask], Kept], tolerate: bool
    ) -> Iterator[tuple[ShardTask, EncodedShard] | None]:
        """Yield the shards as they are made, in any order; None now and then while nothing is.

        Raises: UserError that a worker raised, or if workers die on one shard again and again.
        """
        waiting = deque(tasks)
        hands: dict[int, deque[tuple[Any, ShardTask]]] = {place: deque() for place in self._workers}
        while waiting or any(hands.values()):
            for place, hand in hands.items():
                while waiting and len(hand) < _AHEAD:
                    task = waiting.popleft()
                    hand.append((self._workers[place].make.remote(task, kept_of(task), tolerate), task))
            owners = {ref: place for place, hand in hands.items() for ref, _ in hand}
            ready, _ = self._ray.wait(list(owners), timeout=_LOOK_SECONDS)
            if not ready:
                yield None
                continue
            place, shard = owners[ready[0]], self._result(ready[0])
            hand = hands[place]
            if shard is None:
                waiting.extendleft(task for _, task in reversed(hand))
                self._replace(place, hand[0][1])
                hand.clear()
                continue
            task = next(task for ref, task in hand if ref == ready[0])
            hands[place] = deque(item for item in hand if item[0] != ready[0])
            yield task, shard

    def stop(self) -> None:
        """End the workers."""
        for worker in self._workers.values():
            self._ray.kill(worker)

    def _result(self, ref: Any) -> EncodedShard | None:
        """What came of a call; None if its worker is dead."""
        try:
            result: EncodedShard = self._ray.get(ref)
            return result
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from error
            raise
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.ObjectLostError):
            return None

    def _replace(self, place: int, task: ShardTask) -> None:
        self._deaths[task.index] += 1
        if self._deaths[task.index] == _DEATHS:
            problem = f"on which {_DEATHS} workers died, perhaps because memory ran out"
            hint = "Read Ray's logs of them, or give them more memory with fewer --set workers=N"
            raise UserError("--ray", "shard", task.index, problem, hint)
        self._workers[place] = self._start()


@contextmanager
def worker_pool(job: BagJob, fingerprint: str, tasks: int) -> Iterator[WorkerPool]:
    """Connect to the cluster of `job.config.ray`, or start one on this machine, and start workers for `tasks` shards.

    Raises: UserError if Ray is not installed or cannot be reached.
    """
    config, ray = job.config, _import_ray()
    threads = torch.get_num_threads()
    _connect(ray, str(config.ray))
    try:
        count, resources = _worker_resources(ray.cluster_resources(), config, threads, tasks)
        weights = checkpoint_sha256(config.sam, config.checkpoint)
        maker, shared = ray.remote(ShardMaker).options(max_restarts=0, **resources), ray.put(job)
        pool = WorkerPool(ray, lambda: maker.remote(shared, fingerprint, weights, threads), count)
        try:
            yield pool
        finally:
            pool.stop()
    finally:
        ray.shutdown()  # a cluster that was there before goes on; this only disconnects from it


def _worker_resources(
    resources: Mapping[str, float], config: BagsConfig, threads: int, tasks: int
) -> tuple[int, dict[str, float]]:
    """How many workers there are, and what each takes of the cluster: a GPU, or the cores for its threads."""
    gpus = 0 if config.device == "cpu" else int(resources.get("GPU", 0))
    cpus = resources.get("CPU", 1.0)
    count = min(tasks, config.workers or gpus or max(1, int(cpus // threads)))
    return count, {"num_gpus": min(1.0, gpus / count)} if gpus else {"num_cpus": min(float(threads), cpus / count)}


def _connect(ray: Any, address: str) -> None:
    """Join a cluster; with ``auto`` the one that RAY_ADDRESS names or that runs here, else one that is started here."""
    wanted = os.environ.get("RAY_ADDRESS") if address == "auto" else address
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if wanted is None:
        wanted = _local_cluster() or "local"
        options["include_dashboard"] = False if wanted == "local" else None
    try:
        _require_answer(wanted)
        ray.init(address=wanted, **options)
    except (OSError, ValueError, RuntimeError) as error:
        hint = "Give auto, or the address that ray start printed"
        raise UserError("--ray", "address", wanted, f"where no Ray cluster answers ({error})", hint) from error


def _local_cluster() -> str | None:
    """The address of the cluster that runs on this machine; that of one that was killed may still lie there."""
    ours = "/tmp" if os.name == "posix" else tempfile.gettempdir()
    note = Path(os.environ.get("RAY_TMPDIR", ours), "ray", "ray_current_cluster")
    try:
        address = note.read_text().strip()
        _require_answer(address)
    except OSError:
        return None
    return address or None


def _require_answer(address: str) -> None:
    """Raises: OSError if nobody listens at host:port, for which Ray itself would wait for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        problem = "but Ray is not installed"
        raise UserError("--ray", "package", "ray", problem, "Install it: pip install 'sapnet-pipe[ray]'") from error
    return ray
