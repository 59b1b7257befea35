import numpy as np
import pytest

from sapnet_pipe.data.coco.masks import decode_mask, encode_mask
from sapnet_pipe.data.coco.segmentations import segmentation_problem, segmentation_to_counts
from sapnet_pipe.data.errors import UserError

SQUARE = [2, 2, 6, 2, 6, 6, 2, 6]
MASK = np.zeros((10, 20), bool)
MASK[2:6, 2:6] = True
COUNTS = encode_mask(MASK)


def to_counts(segmentation, height=10, width=20):
    return segmentation_to_counts(segmentation, height, width, file="f.json", field="annotations[3].segmentation")


@pytest.mark.parametrize(
    "segmentation",
    [
        pytest.param([SQUARE], id="polygon"),
        pytest.param([[2, 2, 4, 2, 4, 6, 2, 6], [4, 2, 6, 2, 6, 6, 4, 6]], id="two polygons"),
        pytest.param({"size": [10, 20], "counts": [22, 4, 6, 4, 6, 4, 6, 4, 144]}, id="runs"),
        pytest.param({"size": [10, 20], "counts": COUNTS.decode()}, id="string"),
        pytest.param({"size": [10, 20], "counts": COUNTS}, id="bytes"),
    ],
)
def test_every_form_of_one_square_gives_the_same_mask(segmentation):
    np.testing.assert_array_equal(decode_mask(to_counts(segmentation), 10, 20), MASK)


@pytest.mark.parametrize(
    ("segmentation", "field"),
    [
        pytest.param("text", "segmentation = ", id="text"),
        pytest.param([], "segmentation = []", id="no polygon"),
        pytest.param([1, 2, 3, 4, 5, 6], "segmentation[0] = 1", id="flat polygon"),
        pytest.param([[1, 2, 3, 4]], "segmentation[0] = ", id="two corners, which pycocotools takes for a box"),
        pytest.param([[*SQUARE, 1]], "segmentation[0] = ", id="odd"),
        pytest.param([SQUARE, [1, 2, 3, "4", 5, 6]], "segmentation[1][3] = 4", id="text as number"),
        pytest.param([[1, 2, 3, True, 5, 6]], "segmentation[0][3] = True", id="bool"),
        pytest.param([[1, 2, float("nan"), 4, 5, 6]], "segmentation[0][2] = nan", id="nan"),
        pytest.param([[1, 2, 10**400, 4.5, 5, 6]], "segmentation[0][2] = 1000", id="beyond floats"),
        pytest.param([[1, 2, 1e12, 4, 5, 6]], "segmentation[0] = ", id="far outside"),
        pytest.param({}, "segmentation.counts = None", id="no counts"),
        pytest.param({"counts": [200]}, "segmentation.size = None", id="no size"),
        pytest.param({"size": [20, 10], "counts": [200]}, "segmentation.size = [20, 10]", id="size turned"),
        pytest.param({"size": [10, 20.0], "counts": [200]}, "segmentation.size = ", id="size of floats"),
        pytest.param({"size": [10, 20], "counts": [100, 99]}, "segmentation.counts = ", id="runs too short"),
        pytest.param({"size": [10, 20], "counts": [100, -1, 101]}, "segmentation.counts[1] = -1", id="negative run"),
        pytest.param({"size": [10, 20], "counts": [100, 1.5]}, "segmentation.counts[1] = 1.5", id="float run"),
        pytest.param({"size": [10, 20], "counts": "zzz"}, "segmentation.counts = zzz", id="foreign characters"),
        pytest.param({"size": [10, 20], "counts": "ä"}, "segmentation.counts = ä", id="not ascii"),
        pytest.param({"size": [10, 20], "counts": COUNTS[:-1].decode()}, "segmentation.counts = ", id="truncated"),
    ],
)
def test_a_malformed_segmentation_is_named(segmentation, field):
    with pytest.raises(UserError) as raised:
        to_counts(segmentation)
    assert str(raised.value).startswith(f"f.json: annotations[3].{field}")


def test_a_sound_structure_has_no_problem():
    assert segmentation_problem([SQUARE]) is None
    assert segmentation_problem({"size": [1, 1], "counts": "1"}) is None
