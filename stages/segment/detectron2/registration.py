"""Everything that Detectron2 is told of us by name: our architecture, and labels and photographs as its data sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY
from detectron2.structures import BoxMode

from sapnet_pipe.data.boxes import xyxy_to_xywh
from sapnet_pipe.data.coco.instances import Category, ImageRecord, InstanceDataset, counts_of
from sapnet_pipe.data.coco.masks import rle_area, rle_box
from sapnet_pipe.data.files import write_json
from sapnet_pipe.data.photo_names import find_photograph
from sapnet_pipe.data.pixel_depth import AUTO, Depth
from sapnet_pipe.stages.segment.detectron2.config import META_ARCHITECTURE, NARROW_BACKBONE
from sapnet_pipe.stages.segment.detectron2.meta_arch import HostedSOLOv2, build_narrow_resnet_fpn_backbone
from sapnet_pipe.stages.segment.labels import LabelledImage, LabelSet


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
    name: str,
    records: Sequence[ImageRecord],
    images_dir: Path,
    categories: Sequence[Category],
    *,
    json_file: str,
    depth: Depth = AUTO,
) -> None:
    """Register photographs to evaluate on.

    Args:
        categories: Of the training, in the order of the class indices.
        json_file: COCO file that COCOEvaluator compares with.
    """
    forget(name)
    DatasetCatalog.register(name, lambda: image_dicts(records, images_dir, depth))
    _describe(name, categories, json_file, images_dir)


def forget(name: str) -> None:
    """Remove a data set from Detectron2's catalogues, if it is there."""
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
    if name in MetadataCatalog.list():
        MetadataCatalog.remove(name)


def dataset_dicts(labels: LabelSet) -> list[dict[str, Any]]:
    """One dict per image in Detectron2's format; annotations also have ``id`` and ``alternates`` (RLE)."""
    return [_image_dict(image, labels.images_dir, labels.depth) for image in labels.images]


def image_dicts(records: Sequence[ImageRecord], images_dir: Path, depth: Depth = AUTO) -> list[dict[str, Any]]:
    """One dict per photograph, without annotations."""
    return [
        {
            "file_name": _path_of(image, images_dir),
            "height": image.height,
            "width": image.width,
            "image_id": image.image_id,
            **_depth_entry(depth),
        }
        for image in records
    ]


def write_truth(path: Path, truth: InstanceDataset) -> None:
    """Write a COCO file with every key that COCOEvaluator needs; missing boxes and areas are taken from the masks.

    Ids count from 1: COCO's evaluation takes the id 0 of a matched object for no match.

    Raises: UserError for an annotation without a mask.
    """
    annotations = []
    for number, annotation in enumerate(truth.annotations, 1):
        image = truth.images[annotation.image_id]
        counts = counts_of(annotation, image, file=truth.source)
        box = annotation.bbox_xywh or xyxy_to_xywh(rle_box(counts, image.height, image.width)).tolist()
        area = float(rle_area(counts, image.height, image.width)) if annotation.area is None else annotation.area
        annotations.append(
            {
                "id": number,
                "image_id": annotation.image_id,
                "category_id": annotation.category_id,
                "segmentation": _rle(counts, image.height, image.width),
                "bbox": list(box),
                "area": area,
                "iscrowd": int(annotation.iscrowd),
            }
        )
    images = [
        {"id": image.image_id, "file_name": image.file_name, "height": image.height, "width": image.width}
        for image in truth.images.values()
    ]
    categories = [{"id": category.category_id, "name": category.name} for category in truth.categories]
    write_json(path, {"info": {}, "images": images, "annotations": annotations, "categories": categories})


def _path_of(record: ImageRecord, images_dir: Path) -> str:
    return str(
        find_photograph(images_dir, record.file_name, file=images_dir, field=f"image {record.image_id}.file_name")
    )


def _depth_entry(depth: Depth) -> dict[str, str]:
    """What `MaskMapper` takes the depth from; nothing where the mapper's own rule is meant."""
    return {"depth": str(depth)} if depth.is_decided else {}


def _image_dict(image: LabelledImage, images_dir: Path, depth: Depth) -> dict[str, Any]:
    record = image.record
    objects = zip(image.annotation_ids, image.classes, image.counts, image.alternates, strict=True)
    return {
        "file_name": _path_of(record, images_dir),
        "height": record.height,
        "width": record.width,
        "image_id": record.image_id,
        **_depth_entry(depth),
        "annotations": [
            {
                "id": annotation_id,
                "iscrowd": 0,
                "category_id": class_index,
                "segmentation": _rle(counts, record.height, record.width),
                "bbox": rle_box(counts, record.height, record.width).tolist(),
                "bbox_mode": BoxMode.XYXY_ABS,
                "alternates": [_rle(other, record.height, record.width) for other in alternates],
            }
            for annotation_id, class_index, counts, alternates in objects
        ],
    }


def _rle(counts: bytes, height: int, width: int) -> dict[str, Any]:
    return {"size": [height, width], "counts": counts.decode("ascii")}


def _describe(name: str, categories: Sequence[Category], json_file: str, images_dir: Path) -> None:
    MetadataCatalog.get(name).set(
        json_file=json_file,
        image_root=str(images_dir),
        evaluator_type="coco",
        thing_classes=[category.name for category in categories],
        thing_dataset_id_to_contiguous_id={c.category_id: index for index, c in enumerate(categories)},
    )
