"""Images that cannot be read: found before SAM is loaded, and kept in the shard."""

from collections.abc import Mapping
from pathlib import Path

from sapnet_pipe.data.bag_store.schema import FailedImage
from sapnet_pipe.data.coco.instances import ImageRecord
from sapnet_pipe.data.errors import FaultReport, UserError
from sapnet_pipe.data.images import image_size, read_image
from sapnet_pipe.data.photo_names import check_spelling, find_photograph
from sapnet_pipe.data.points.point_set import PointSet
from sapnet_pipe.data.progress import progress_bar


def image_field(image: ImageRecord) -> str:
    """How errors name an image of the points file."""
    return f"images[id={image.image_id}].file_name"


def find_images(
    points: PointSet,
    images_dir: Path,
    *,
    report: FaultReport | None = None,
    lost: dict[int, UserError] | None = None,
    quiet: bool = False,
) -> dict[int, Path]:
    """The file of every image that has a point, each one opened and its size compared, none decoded.

    Args:
        report: Is told of photographs that are spelled otherwise, or will be read in part.
        lost: Where given, images that cannot be used are put there by id with the reason, instead of raised.
    Raises: UserError naming the points file if an image is missing, no image, of another size than annotated, or
        outside `images_dir`; or if that folder does not exist, or there is no point.
    """
    if not len(points):
        raise UserError(points.source, "points", 0, "so there is nothing to make bags of", "Give at least one point")
    if not images_dir.is_dir():
        problem = "a file, not a folder" if images_dir.exists() else "which does not exist"
        raise UserError(images_dir, "images", str(images_dir), problem, "Give the folder of the images")
    image_ids = sorted(set(points.image_id.tolist()))
    report = report or FaultReport(points.source)
    images = [points.images[image_id] for image_id in image_ids]
    check_spelling(images_dir, {image.file_name: image_field(image) for image in images}, report)
    files = {}
    for image_id in progress_bar(image_ids, desc="checking images", unit="img", quiet=quiet):
        try:
            files[image_id] = _find(points.images[image_id], images_dir, report)
        except UserError as error:
            if lost is None:
                raise
            lost[image_id] = error
    return files


def failed_images(failures: Mapping[int, UserError], points: PointSet) -> tuple[FailedImage, ...]:
    """What a shard keeps of the images that could not be read, by ascending id."""
    return tuple(
        FailedImage(
            image_id=image_id,
            file_name=points.images[image_id].file_name,
            points=int((points.image_id == image_id).sum()),
            reason=" ".join(error.problem.split()),
        )
        for image_id, error in sorted(failures.items())
    )


def _find(image: ImageRecord, images_dir: Path, report: FaultReport) -> Path:
    field, source = image_field(image), report.source
    path = find_photograph(images_dir, image.file_name, file=source, field=field)
    height, width = image_size(path, file=source, field=field, report=report)
    # A turned image may be annotated as it lies on disk: only the reader knows, so it is asked when in doubt.
    if (height, width) != (image.height, image.width):
        read_image(path, image.height, image.width, file=source, field=field)
    return path
