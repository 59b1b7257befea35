"""Trains the toy selector, alone or under torchrun: train_toy.py STORE OUT [key=value ...]."""

import json
import sys
from pathlib import Path

from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.stages.select.run import run
from tests.stages.select.toy_store import toy_config

if __name__ == "__main__":
    toy, out = Path(sys.argv[1]), Path(sys.argv[2])
    changes = {key: json.loads(value) for key, _, value in (text.partition("=") for text in sys.argv[3:])}
    run(BagStore.open(toy / "bags"), toy / "images", out, toy_config(**changes), explain=True, quiet=True)
