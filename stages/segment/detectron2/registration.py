"""Everything that Detectron2 is to know of us by name, told by a call."""

from collections.abc import Sequence
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY

from sapnet_pipe.data.coco.instances import Category, ImageRecord
from sapnet_pipe.stages.segment.detectron2.backbone import build_narrow_resnet_fpn_backbone
from sapnet_pipe.stages.segment.detectron2.config import META_ARCHITECTURE, NARROW_BACKBONE
from sapnet_pipe.stages.segment.detectron2.datasets import dataset_dicts, image_dicts
from sapnet_pipe.stages.segment.detectron2.meta_arch import HostedSOLOv2
from sapnet_pipe.stages.segment.labels import LabelSet


def register() -> None:
    """Make the meta architecture and the narrow backbone known to Detectron2; a second call changes nothing."""
    if META_ARCHITECTURE not in META_ARCH_REGISTRY:
        META_ARCH_REGISTRY.register(HostedSOLOv2)
    if NARROW_BACKBONE not in BACKBONE_REGISTRY:
        BACKBONE_REGISTRY.register(build_narrow_resnet_fpn_backbone)


def register_labels(name: str, labels: LabelSet) -> None:
    """Register labels as `register_coco_instances` does, with the alternates kept; an older one of that name goes."""
    forget(name)
    DatasetCatalog.register(name, lambda: dataset_dicts(labels))
    _describe(name, labels.categories, str(labels.source), labels.images_dir)


def register_images(
    name: str, records: Sequence[ImageRecord], images_dir: Path, categories: Sequence[Category], *, json_file: str
) -> None:
    """Register photographs to evaluate on.

    Args:
        categories: Of the training, in the order of the class indices.
        json_file: COCO file that COCOEvaluator compares with.
    """
    forget(name)
    DatasetCatalog.register(name, lambda: image_dicts(records, images_dir))
    _describe(name, categories, json_file, images_dir)


def _describe(name: str, categories: Sequence[Category], json_file: str, images_dir: Path) -> None:
    MetadataCatalog.get(name).set(
        json_file=json_file,
        image_root=str(images_dir),
        evaluator_type="coco",
        thing_classes=[category.name for category in categories],
        thing_dataset_id_to_contiguous_id={c.category_id: index for index, c in enumerate(categories)},
    )


def forget(name: str) -> None:
    """Remove a data set from Detectron2's catalogues, if it is there."""
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
    if name in MetadataCatalog.list():
        MetadataCatalog.remove(name)
