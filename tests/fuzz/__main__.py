"""python -m tests.fuzz [--inputs N] [--seed S] [--reader NAME]: N mutated files over all readers, faults by kind.

Every reader runs in processes of its own, some hundred inputs each, so that a crash, a hang or a growth of memory is
noticed and the input that did it is kept in --keep.
"""

import argparse
import multiprocessing
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.readers import all_readers, answer

_AT_ONCE = 1000
_SECONDS, _GROWTH = 10, 1.5e9


def main() -> int:
    """Run, report, and return 1 if anything but an answer or a UserError was seen."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", default="")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        names = list(all_readers(Path(folder)))
    chosen = [name for name in names if options.reader in name]
    each, faults = -(-options.inputs // len(chosen)), Counter[str]()
    _say(f"{'reader':<16} {'inputs':>8} {'accepted':>9} {'refused':>8} {'faults':>7} {'seconds':>8}")
    for name in chosen:
        began, counts = time.monotonic(), Counter[str]()
        for part in range(0, each, _AT_ONCE):
            counts += _part(name, min(_AT_ONCE, each - part), options.seed + part, options.keep, faults)
        wrong = sum(counts.values()) - counts["accepted"] - counts["refused"]
        seconds = time.monotonic() - began
        figures = f"{sum(counts.values()):>8} {counts['accepted']:>9} {counts['refused']:>8} {wrong:>7} {seconds:>8.0f}"
        _say(f"{name:<16} {figures}")
    for kind, count in faults.most_common():
        _say(f"{count:>6} {kind}")
    return 1 if faults else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _part(name: str, inputs: int, number: int, keep: Path, faults: Counter[str]) -> Counter[str]:
    """Some inputs in a process of their own."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        child = context.Process(target=_work, args=(name, inputs, number, Path(folder), keep, sender))
        child.start()
        sender.close()
        counts, kinds = Counter[str](), Counter[str]()
        try:
            counts, kinds = receiver.recv()
        except EOFError:
            kinds[f"{name}: the process died"] += 1
            counts["died"] += 1
            _kept(keep, f"{name}-died", (Path(folder) / "current").read_bytes())
        child.join()
        if child.exitcode:
            kinds[f"{name}: exit code {child.exitcode}"] += 1
    faults.update(kinds)
    return counts


def _work(name: str, inputs: int, number: int, folder: Path, keep: Path, sender: Any) -> None:
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _hangs)
    (folder / "files").mkdir()
    reader = all_readers(folder / "files")[name]
    counts, kinds, before = Counter[str](), Counter[str](), _memory()

    @seed(number)
    @settings(max_examples=inputs, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(reader.content)
    def each(content: bytes) -> None:
        (folder / "current").write_bytes(content)
        signal.alarm(_SECONDS)
        try:
            counts[answer(reader, content)] += 1
        except BaseException as error:
            kind = _kind(name, error)
            kinds[kind] += 1
            counts["faults"] += 1
            if kinds[kind] == 1:
                _kept(keep, f"{name}-{len(kinds)}", content)
        finally:
            signal.alarm(0)

    each()
    if _memory() - before > _GROWTH:
        kinds[f"{name}: {(_memory() - before) / 1e9:.1f} GB more memory"] += 1
    sender.send((counts, kinds))


def _kind(name: str, error: BaseException) -> str:
    """What was raised, and where in this project."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "sapnet_pipe" in frame.filename]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].name}" if frames else "outside"
    return f"{name}: {type(error).__name__} at {place}: {str(error)[:80]!r}"


def _hangs(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"longer than {_SECONDS} s")


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _kept(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
