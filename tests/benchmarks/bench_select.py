"""How fast stage two is: `make bench-select`. The last line of the output is one JSON object.

The maths is everything that a training step computes from boxes and logits (`step_maths`), forward, of one image of
1333x800 with bags of up to 6 masks, 80 classes and 500 random boxes; beside it the plain loop over Python floats that
the tests keep as reference (`loop_maths`), on the same inputs, which must agree to 1e-5. Both on one thread: work of
microseconds is not worth waking a second one, which takes longer.

The training is that of one variant of an ablation, in full and under ``--frozen`` (`bench_frozen`).
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from tests.benchmarks.bench_frozen import bench_frozen
from tests.stages.select.method.step_maths import random_step, step_maths
from tests.stages.select.method.test_select_step_maths import equal_to_loop, loop_of

POINTS = (7, 20, 60)
RUNS = 30


def milliseconds(function: Callable[[], Any], runs: int) -> list[float]:
    """Wall time of each of `runs` calls, ascending."""
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        function()
        taken.append(1000 * (time.perf_counter() - began))
    return sorted(taken)


def bench_maths(points: int) -> dict[str, float]:
    """Medians in ms of the vectorised maths and of the loop, after both were found equal."""
    given = random_step(points)
    loop = loop_of(given)
    equal_to_loop(step_maths(given, points), loop, given.valid)
    milliseconds(lambda: step_maths(given, points), 5)
    ours = milliseconds(lambda: step_maths(given, points), RUNS)
    looped = milliseconds(lambda: loop_of(given), 3)
    return {"ms": ours[len(ours) // 2], "best_ms": ours[0], "loop_ms": looped[1]}


def main() -> None:
    """Print a table and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="Threads of torch for the maths.")
    given, own_choice = parser.parse_args(), torch.get_num_threads()
    torch.set_num_threads(given.threads)
    result: dict[str, float] = {}
    sys.stdout.write(f"maths of one image, threads: {given.threads}; medians\n")
    sys.stdout.write("points  vectorised ms  (best)   loop ms   ratio\n")
    for points in POINTS:
        found = bench_maths(points)
        ratio = found["loop_ms"] / found["ms"]
        line = f"{points:6d}  {found['ms']:13.2f}  ({found['best_ms']:.2f})  {found['loop_ms']:8.1f}  {ratio:6.0f}\n"
        sys.stdout.write(line)
        result |= {f"maths_{points}_ms": round(found["ms"], 3), f"maths_{points}_vs_loop": round(ratio, 1)}
    torch.set_num_threads(own_choice)
    trained = bench_frozen()
    sys.stdout.write("\nseconds of one variant, preset demo, 240 images\n")
    sys.stdout.write(f"full {trained['full_s']:.1f}   --frozen {trained['frozen_s']:.1f}\n")
    sys.stdout.write(json.dumps(result | trained) + "\n")


if __name__ == "__main__":
    main()
