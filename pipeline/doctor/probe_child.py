"""Imports packages one by one and tries each; runs in a process of its own, which a broken package may take with it.

Its source is handed to a fresh interpreter by `pipeline.doctor.probe`: it imports nothing of ours. On standard input
comes {"path": sys.path, "names": [...], "speed": device or null}; on standard output goes a line of JSON before each
package and one after it.
"""

import importlib
import json
import statistics
import sys
import time
from typing import Any


def use_torch(device: str | None) -> dict[str, Any]:
    """Its accelerators, and how fast it multiplies float32 matrices, in GFLOP/s."""
    import torch

    torch.zeros(2).sum().item()
    found: dict[str, Any] = {"build": torch.version.cuda, "mps": torch.backends.mps.is_available(), "cuda": []}
    found["hub"] = torch.hub.get_dir()
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        found["cuda"].append({"name": torch.cuda.get_device_name(index), "free": free, "total": total})
    if device is not None:
        best = "cuda" if found["cuda"] else "mps" if found["mps"] else "cpu"
        found["device"] = best if device == "auto" else device
        try:
            found["gflops"] = gflops(found["device"])
        except Exception as error:
            found["speed_error"] = f"{type(error).__name__}: {error}"
    return found


def gflops(device: str) -> float:
    """Median of a few products as large as those in SAM's encoder, without TF32."""
    import torch

    size = 1024 if device == "cpu" else 4096
    left, right = torch.rand(size, 768, device=device), torch.rand(768, 3072, device=device)
    seconds = []
    for _ in range(8):
        began = time.perf_counter()
        float((left @ right)[0, 0])  # waits for the device
        seconds.append(time.perf_counter() - began)
    return 2e-9 * size * 768 * 3072 / statistics.median(seconds[1:])


def use_torchvision(_: str | None) -> dict[str, Any]:
    """The compiled operators, which a torchvision made for another torch lacks."""
    import torch
    from torchvision.ops import nms

    nms(torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1), 0.5)
    return {}


def use_cv2(_: str | None) -> dict[str, Any]:
    """The functions that masks need."""
    import cv2
    import numpy as np

    cv2.resize(np.zeros((8, 8), np.uint8), (2, 2))
    return {}


def use_pycocotools(_: str | None) -> dict[str, Any]:
    """Encoding, which is compiled against one NumPy."""
    import numpy as np
    from pycocotools import mask

    mask.encode(np.zeros((4, 4, 1), np.uint8, order="F"))
    return {}


def use_pyarrow(_: str | None) -> dict[str, Any]:
    """Parquet with zstd, which small builds lack."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), io.BytesIO(), compression="zstd")
    return {}


def use_segment_anything(_: str | None) -> dict[str, Any]:
    """The models."""
    return {"models": sorted(importlib.import_module("segment_anything").sam_model_registry)}


def use_detectron2(_: str | None) -> dict[str, Any]:
    """What the engine uses; `compiled` tells whether its C extension is there, which it does not need."""
    for module, name in (("detectron2.engine", "DefaultTrainer"), ("detectron2.modeling", "build_backbone")):
        getattr(importlib.import_module(module), name)
    try:
        importlib.import_module("detectron2._C")
    except ImportError:
        return {"compiled": False}
    return {"compiled": True}


USES = {
    "torch": use_torch,
    "torchvision": use_torchvision,
    "cv2": use_cv2,
    "pycocotools": use_pycocotools,
    "pyarrow": use_pyarrow,
    "segment_anything": use_segment_anything,
    "detectron2": use_detectron2,
}


def main() -> None:
    """Try every package; whatever it raises is a line, not an end."""
    task = json.loads(sys.stdin.read())
    sys.path[:] = task["path"]
    answer, sys.stdout = sys.stdout, sys.stderr  # packages may print
    for name in task["names"]:
        answer.write(json.dumps({"begin": name}) + "\n")
        answer.flush()
        said: dict[str, Any] = {"name": name}
        try:
            module = importlib.import_module(name)
            said |= {"version": str(getattr(module, "__version__", "")), "file": str(getattr(module, "__file__", ""))}
            said |= USES.get(name, lambda _: {})(task["speed"])
        except BaseException as error:
            said |= {"error": f"{type(error).__name__}: {error}", "missing": _is_missing(error, name)}
        answer.write(json.dumps(said) + "\n")
        answer.flush()


def _is_missing(error: BaseException, name: str) -> bool:
    return isinstance(error, ModuleNotFoundError) and error.name == name


if __name__ == "__main__":
    main()
