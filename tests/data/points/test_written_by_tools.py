"""Files that the tools' own packages write. `pip install labelme datumaro` beside the project runs these tests."""

import importlib

import numpy as np
import pytest

from sapnet_pipe.data.points.reader import read_points
from tests.data.points.test_tool_files import CLICKS, SIZES, of

NAMES = ["cat", "dog"]


def check(path, photographs):
    points = read_points(path, photographs)
    names = {category.category_id: category.name for category in points.categories}
    ids = zip(points.image_id.tolist(), points.category_id.tolist(), points.xy.tolist(), strict=True)
    found = sorted((points.images[image_id].file_name, *xy, names[category_id]) for image_id, category_id, xy in ids)
    assert [(one[0], one[3]) for one in found] == [(one[0], one[3]) for one in sorted(CLICKS)]
    assert np.allclose([one[1:3] for one in found], [one[1:3] for one in sorted(CLICKS)], atol=1e-3)


def test_labelme_writes_what_is_read(tmp_path, photographs):
    module = pytest.importorskip("labelme._label_file", reason="pip install labelme runs this test")
    folder = tmp_path / "labelme"
    folder.mkdir()
    for name, (height, width) in SIZES.items():
        shapes = [
            {"label": c, "points": [[x, y]], "shape_type": "point", "group_id": None, "flags": {}, "description": ""}
            for x, y, c in of(name)
        ]
        path = str(folder / f"{name[0]}.json")
        module.LabelFile().save(path, shapes, f"../photographs/{name}", height, width)
    check(folder, photographs)


def test_datumaro_writes_a_cvat_file_that_is_read(tmp_path, photographs):
    datumaro = pytest.importorskip("datumaro", reason="pip install datumaro runs this test")
    annotation = importlib.import_module("datumaro.components.annotation")
    items = [
        datumaro.DatasetItem(
            id=name[0],
            media=datumaro.Image.from_file(path=str(photographs / name)),
            annotations=[annotation.Points([x, y], label=NAMES.index(c)) for x, y, c in of(name)],
        )
        for name in SIZES
    ]
    labels = annotation.LabelCategories.from_iterable(NAMES)
    dataset = datumaro.Dataset.from_iterable(items, categories={annotation.AnnotationType.label: labels})
    dataset.export(str(tmp_path / "cvat"), "cvat", save_media=False)
    check(tmp_path / "cvat" / "default.xml", photographs)
