"""From one click per object to an instance-segmentation model: points, bags of SAM masks, pseudo labels, SOLOv2.

The names below are the public Python API (docs/python-api.md); everything else may change. They are imported when they
are first used, so that importing this package is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sapnet_pipe.data.bag_store.schema import Bag
    from sapnet_pipe.data.bag_store.store import BagStore
    from sapnet_pipe.data.coco.masks import decode_masks
    from sapnet_pipe.data.errors import UserError
    from sapnet_pipe.data.points.point_set import PointSet
    from sapnet_pipe.pipeline.api.runs import evaluate, generate_bags, open_bags, read_points, select, train_segmenter
    from sapnet_pipe.pipeline.api.sam import Sam, load_sam
    from sapnet_pipe.pipeline.api.segmenter import Instances, Segmenter, load_model

    __version__: str

_MODULES = {
    "Bag": "data.bag_store.schema",
    "BagStore": "data.bag_store.store",
    "Instances": "pipeline.api.segmenter",
    "PointSet": "data.points.point_set",
    "Sam": "pipeline.api.sam",
    "Segmenter": "pipeline.api.segmenter",
    "UserError": "data.errors",
    "decode_masks": "data.coco.masks",
    "evaluate": "pipeline.api.runs",
    "generate_bags": "pipeline.api.runs",
    "load_model": "pipeline.api.segmenter",
    "load_sam": "pipeline.api.sam",
    "open_bags": "pipeline.api.runs",
    "read_points": "pipeline.api.runs",
    "select": "pipeline.api.runs",
    "train_segmenter": "pipeline.api.runs",
}

__all__ = [
    "Bag",
    "BagStore",
    "Instances",
    "PointSet",
    "Sam",
    "Segmenter",
    "UserError",
    "__version__",
    "decode_masks",
    "evaluate",
    "generate_bags",
    "load_model",
    "load_sam",
    "open_bags",
    "read_points",
    "select",
    "train_segmenter",
]


if not TYPE_CHECKING:  # which would take any name for a public one

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first asked for."""
        if name == "__version__":
            from importlib.metadata import version

            value: Any = version("sapnet-pipe")
        elif name in _MODULES:
            value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
