"""CVAT for images 1.1: one XML file of masks, in CVAT's own run lengths, which are exact.

The runs of a mask go row by row through its box and begin with the background. Scores are an attribute of each mask:
CVAT takes it where the label has an attribute of that name, and passes over it elsewhere.
"""

from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.coco.masks import Mask
from sapnet_pipe.data.exports.record import FormWriter, LabelledImage, LabelledObject
from sapnet_pipe.data.exports.writers.xml_text import attributes, check_xml, element

_SCORE = (
    "<attribute><name>score</name><mutable>False</mutable><input_type>text</input_type>"
    "<default_value></default_value><values></values></attribute>"
)


class Cvat(FormWriter):
    """One XML file, an image after another."""

    file: TextIO

    def begin(self) -> None:
        """Write the labels of the task."""
        for place, name in enumerate(self.job.class_names):
            check_xml(name, file=self.job.source, field=f"categories[{place}].name")
        for record in self.job.records:
            check_xml(record.file_name, file=self.job.source, field=f"image {record.image_id}.file_name")
        self.file = self.path.open("w", encoding="utf-8", newline="\n")
        self.open_files.append(self.file)
        labels = "".join(
            f"<label>{element('name', name)}<attributes>{_SCORE}</attributes></label>\n"
            for name in dict.fromkeys(self.job.class_names)
        )
        size = element("size", str(len(self.job.records)))
        self.file.write(
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
            f"<meta><task>{size}<mode>annotation</mode><labels>\n{labels}</labels></task></meta>\n"
        )
        self.number = 0

    def add(self, image: LabelledImage) -> None:
        """Write the masks of an image."""
        record = image.record
        place = attributes(id=self.number, name=record.file_name, width=record.width, height=record.height)
        self.file.write(f"<image{place}>\n")
        for item in image.objects:
            self.file.write(self._mask(item, image))
            self.fidelity.add(item.object_id, record.file_name)
        self.file.write("</image>\n")
        self.number += 1

    def _mask(self, item: LabelledObject, image: LabelledImage) -> str:
        crop = item.crop(image.record)
        rows, columns = np.flatnonzero(crop.mask.any(axis=1)), np.flatnonzero(crop.mask.any(axis=0))
        inner = crop.mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        values = attributes(
            label=self.job.class_names[item.class_index],
            source="auto",
            occluded=0,
            rle=", ".join(map(str, cvat_runs(inner).tolist())),
            left=crop.left + columns[0],
            top=crop.top + rows[0],
            width=inner.shape[1],
            height=inner.shape[0],
            z_order=0,
        )
        score = "" if item.score is None else f'<attribute name="score">{item.score:.6g}</attribute>'
        return f"<mask{values}>{score}</mask>\n"

    def finish(self) -> None:
        """Close the file's element."""
        self.file.write("</annotations>\n")


def cvat_runs(mask: Mask) -> NDArray[np.int64]:
    """(H, W) bool -> the lengths of its runs, row by row, the first of background and perhaps 0."""
    flat = np.concatenate([[False], mask.ravel()])
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), mask.size)
    return np.diff(ends, prepend=0)
