"""The forms by name, and how one is written: whole or not at all."""

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sapnet_pipe.data.exports.fidelity import Fidelity
from sapnet_pipe.data.exports.record import ExportJob, FormWriter, LabelledImage
from sapnet_pipe.data.exports.staging import staged_folder
from sapnet_pipe.data.exports.writers.coco import CocoPolygons, FiftyOne
from sapnet_pipe.data.exports.writers.cvat import Cvat
from sapnet_pipe.data.exports.writers.geojson import GeoJson
from sapnet_pipe.data.exports.writers.huggingface import HuggingFace
from sapnet_pipe.data.exports.writers.index_masks import IndexMasks
from sapnet_pipe.data.exports.writers.label_studio import LabelStudio
from sapnet_pipe.data.exports.writers.labelme import Labelme
from sapnet_pipe.data.exports.writers.voc import Voc
from sapnet_pipe.data.exports.writers.yolo import Yolo
from sapnet_pipe.data.files import atomic_path


@dataclass(frozen=True)
class Form:
    """One form: its writer, and whether it is one file instead of a folder."""

    writer: type[FormWriter]
    is_file: bool = False


FORMS: Mapping[str, Form] = {
    "coco-polygons": Form(CocoPolygons, is_file=True),
    "yolo": Form(Yolo),
    "labelme": Form(Labelme),
    "cvat": Form(Cvat, is_file=True),
    "label-studio": Form(LabelStudio),
    "png": Form(IndexMasks),
    "voc": Form(Voc),
    "geojson": Form(GeoJson),
    "fiftyone": Form(FiftyOne),
    "huggingface": Form(HuggingFace),
}


def write_form(form: Form, out: Path, job: ExportJob, images: Iterable[LabelledImage]) -> tuple[Fidelity, list[str]]:
    """Write the images one by one to `out`, a file that is not there or a folder that is new or empty.

    Returns: what was lost, and notes on what was written.
    Raises: UserError if the form cannot hold the set, if a photograph is not as its masks need it, or the disk is full.
    """
    staged = atomic_path(out) if form.is_file else staged_folder(out)
    with staged as temporary:
        writer = form.writer(temporary, out, job)
        with closing(writer):
            writer.begin()
            for image in images:
                writer.add(image)
                writer.fidelity.alternates_dropped += sum(item.alternates > 0 for item in image.objects)
            writer.finish()
    return writer.fidelity, writer.notes
