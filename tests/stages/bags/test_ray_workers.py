"""How shards are shared out among workers that die, on a Ray that is made up: calls fail and end as the test says."""

import random
import sys
from types import SimpleNamespace

import pytest

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.bags import ray_workers
from sapnet_pipe.stages.bags.config import BagsConfig
from sapnet_pipe.stages.bags.ray_workers import WorkerPool
from sapnet_pipe.stages.bags.tasks import Kept, ShardTask


class _Dead(Exception):  # noqa: N818
    pass


class _Failed(Exception):  # noqa: N818
    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


class _Call(SimpleNamespace):
    __hash__ = object.__hash__  # type: ignore[assignment]  # calls are keys, as Ray's references are


class _Worker:
    """Hands back the call itself; `ray.get` does the work."""

    def __init__(self):
        self.alive = True
        self.make = SimpleNamespace(remote=self._remote)

    def _remote(self, task, kept, tolerate):
        return _Call(worker=self, task=task)


class _FakeRay:
    """Ray's calls, as far as the pool needs them."""

    exceptions = SimpleNamespace(RayTaskError=_Failed, RayActorError=_Dead, ObjectLostError=_Dead)

    def __init__(self, outcome):
        self.outcome, self.started = outcome, []

    def start(self):
        self.started.append(_Worker())
        return self.started[-1]

    def wait(self, calls, timeout):
        return [random.choice(calls)], []

    def get(self, call):
        if call.worker.alive:
            call.worker.alive = self.outcome(call.task)
        if not call.worker.alive:
            raise _Dead
        return call.task.index

    def kill(self, worker):
        worker.alive = False


def _pool(outcome, count=3):
    ray = _FakeRay(outcome)
    return WorkerPool(ray, ray.start, count), ray


def _made(pool, shards):
    tasks = [ShardTask(index, (index,)) for index in range(shards)]
    return [done[0].index for done in pool.make(tasks, lambda _: Kept(), False) if done is not None]


@pytest.mark.parametrize("seed", range(5))
def test_every_shard_is_made_once_though_workers_die_at_random(seed):
    random.seed(seed)
    deaths = iter([False] * 20)
    pool, ray = _pool(lambda _: random.random() > 0.3 or next(deaths, True))
    made = _made(pool, 40)
    assert sorted(made) == list(range(40))
    assert len(ray.started) > 3


def test_a_shard_that_kills_every_worker_is_named():
    pool, _ = _pool(lambda task: task.index != 2)
    with pytest.raises(UserError, match=r"shard = 2, on which 10 workers died.*memory"):
        _made(pool, 6)


def test_what_a_worker_refuses_is_the_users_to_fix():
    error = UserError("points.json", "images", "x.jpg", "which is damaged", "Fix it")

    def refuse(_):
        raise _Failed(error)

    with pytest.raises(UserError, match=r"x\.jpg, which is damaged"):
        _made(_pool(refuse)[0], 3)


def test_a_fault_of_ours_in_a_worker_stays_one():
    def fail(_):
        raise _Failed(KeyError("ours"))

    with pytest.raises(_Failed):
        _made(_pool(fail)[0], 3)


@pytest.mark.parametrize(
    ("resources", "settings", "tasks", "count", "share"),
    [
        pytest.param({"CPU": 16.0, "GPU": 8.0}, {}, 100, 8, {"num_gpus": 1.0}, id="a worker for each GPU"),
        pytest.param({"CPU": 16.0, "GPU": 8.0}, {}, 3, 3, {"num_gpus": 1.0}, id="no more workers than shards"),
        pytest.param({"CPU": 16.0, "GPU": 2.0}, {"workers": 4}, 9, 4, {"num_gpus": 0.5}, id="two workers on a GPU"),
        pytest.param({"CPU": 16.0}, {}, 100, 4, {"num_cpus": 4.0}, id="as many as the cores hold"),
        pytest.param({"CPU": 2.0}, {}, 100, 1, {"num_cpus": 2.0}, id="fewer cores than threads"),
        pytest.param({"CPU": 2.0}, {"workers": 4}, 100, 4, {"num_cpus": 0.5}, id="more workers than cores"),
        pytest.param({"CPU": 8.0, "GPU": 8.0}, {"device": "cpu"}, 9, 2, {"num_cpus": 4.0}, id="GPUs left alone"),
    ],
)
def test_workers_and_what_they_take_of_the_cluster(resources, settings, tasks, count, share):
    assert ray_workers._worker_resources(resources, BagsConfig(**settings), 4, tasks) == (count, share)


def test_without_ray_the_message_says_what_to_install(tmp_path, points, images_dir, config, monkeypatch):
    from sapnet_pipe.stages.bags.run import run

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"Ray is not installed.*pip install 'sapnet-pipe\[ray\]'"):
        run(points, images_dir, tmp_path / "bags", config.model_copy(update={"ray": "auto"}), quiet=True)
    assert not (tmp_path / "bags").exists()
