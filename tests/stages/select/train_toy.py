"""Trains the toy selector, alone or under torchrun: train_toy.py STORE OUT [key=value ...]."""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

from toy_store import toy_config  # noqa: E402

from data.bag_store import BagStore  # noqa: E402
from stages.select.run import run  # noqa: E402

if __name__ == "__main__":
    toy, out = Path(sys.argv[1]), Path(sys.argv[2])
    changes = {key: json.loads(value) for key, _, value in (text.partition("=") for text in sys.argv[3:])}
    run(BagStore.open(toy / "bags"), toy / "images", out, toy_config(**changes), explain=True, quiet=True)
