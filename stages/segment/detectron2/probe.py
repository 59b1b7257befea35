"""Whether Detectron2 can be used here: imports all that this package takes from it, and nothing of our own.

A fault in our own modules must look like one, so they are imported plainly once Detectron2 has been found.
"""

import importlib
import warnings

# Every module of Detectron2 that this package imports, and the names it takes from it; a test compares.
REQUIRED: dict[str, tuple[str, ...]] = {
    "detectron2.checkpoint": ("DetectionCheckpointer",),
    "detectron2.config": ("CfgNode", "configurable", "get_cfg"),
    "detectron2.data": (
        "DatasetCatalog",
        "DatasetFromList",
        "MetadataCatalog",
        "build_detection_test_loader",
        "build_detection_train_loader",
        "get_detection_dataset_dicts",
    ),
    "detectron2.data.transforms": (),
    "detectron2.engine": ("DefaultTrainer", "HookBase", "launch"),
    "detectron2.engine.defaults": (),
    "detectron2.engine.hooks": (),
    "detectron2.evaluation": ("COCOEvaluator",),
    "detectron2.layers": ("ShapeSpec",),
    "detectron2.modeling": ("BACKBONE_REGISTRY", "META_ARCH_REGISTRY", "build_backbone"),
    "detectron2.modeling.backbone": ("FPN", "ResNet"),
    "detectron2.modeling.backbone.fpn": ("LastLevelMaxPool",),
    "detectron2.modeling.backbone.resnet": ("BasicBlock", "BasicStem", "BottleneckBlock"),
    "detectron2.solver": ("build_lr_scheduler",),
    "detectron2.solver.build": ("get_default_optimizer_params", "maybe_add_gradient_clipping"),
    "detectron2.structures": ("BitMasks", "BoxMode", "Boxes", "ImageList", "Instances"),
    "detectron2.utils.comm": (),
    "detectron2.utils.events": ("EventWriter", "get_event_storage", "has_event_storage"),
}


def detectron2_problem() -> str | None:
    """Why Detectron2 cannot be used here, in one line; None if it can."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for module, names in REQUIRED.items():
                found = importlib.import_module(module)
                for name in names:
                    getattr(found, name)
    except Exception as error:  # an old or half-built Detectron2 fails with all kinds of errors
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None


def detectron2_version() -> str:
    """Of the Detectron2 that was found."""
    return str(getattr(importlib.import_module("detectron2"), "__version__", "unknown"))
