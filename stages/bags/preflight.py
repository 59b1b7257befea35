"""What can be known to be wrong before SAM is loaded."""

from pathlib import Path

from tqdm import tqdm

from data.coco import ImageRecord
from data.errors import UserError
from data.files import resolve_inside
from data.images import image_size, read_image
from data.point_set import PointSet


def image_field(image: ImageRecord) -> str:
    """How errors name an image of the points file."""
    return f"images[id={image.image_id}].file_name"


def find_images(points: PointSet, images_dir: Path, *, quiet: bool = False) -> dict[int, Path]:
    """The file of every image that has a point, each one opened and its size compared, none decoded.

    Raises: UserError naming the points file if an image is missing, no image, of another size than annotated, or
        outside `images_dir`; or if that folder does not exist, or there is no point.
    """
    if not len(points):
        raise UserError(points.source, "points", 0, "so there is nothing to make bags of", "Give at least one point")
    if not images_dir.is_dir():
        problem = "a file, not a folder" if images_dir.exists() else "which does not exist"
        raise UserError(images_dir, "images", str(images_dir), problem, "Give the folder of the images")
    image_ids = sorted(set(points.image_id.tolist()))
    bar = tqdm(image_ids, desc="checking images", unit="img", disable=quiet)
    return {image_id: _find(points.images[image_id], images_dir, points.source) for image_id in bar}


def _find(image: ImageRecord, images_dir: Path, source: Path) -> Path:
    field = image_field(image)
    path = resolve_inside(images_dir, image.file_name, file=source, field=field)
    height, width = image_size(path, file=source, field=field)
    # A turned image may be annotated as it lies on disk: only the reader knows, so it is asked when in doubt.
    if (height, width) != (image.height, image.width):
        read_image(path, image.height, image.width, file=source, field=field)
    return path
