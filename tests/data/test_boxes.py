import numpy as np
import pytest

from sapnet_pipe.data.boxes import box_area, box_iou, mask_to_box, xywh_to_xyxy, xyxy_to_xywh


@pytest.mark.parametrize(
    ("xywh", "xyxy"),
    [
        pytest.param([1, 2, 3, 4], [1, 2, 4, 6], id="single"),
        pytest.param([[0, 0, 0, 0], [5, 5, 1, 2]], [[0, 0, 0, 0], [5, 5, 6, 7]], id="zero and plain"),
        pytest.param([-2, -1, 3, 4], [-2, -1, 1, 3], id="negative corner"),
        pytest.param(np.zeros((0, 4)), np.zeros((0, 4)), id="empty"),
    ],
)
def test_box_forms_convert_both_ways(xywh, xyxy):
    assert xywh_to_xyxy(xywh).dtype == np.float32
    np.testing.assert_array_equal(xywh_to_xyxy(xywh), np.asarray(xyxy, np.float32))
    np.testing.assert_array_equal(xyxy_to_xywh(xyxy), np.asarray(xywh, np.float32))


def test_inverted_boxes_have_no_area():
    np.testing.assert_array_equal(box_area([[0, 0, 2, 3], [2, 3, 0, 0], [1, 1, 1, 5]]), [6, 0, 0])


def test_iou_by_hand():
    a = [[[0, 0, 4, 4]], [[0, 0, 0, 0]]]
    b = [[0, 0, 4, 4], [2, 2, 6, 6], [4, 0, 8, 4], [0, 0, 0, 0]]
    np.testing.assert_allclose(box_iou(a, b), np.array([[1, 4 / 28, 0, 0], [0, 0, 0, 0]]), rtol=1e-6)


def test_iou_of_no_boxes_has_no_rows():
    assert box_iou(np.zeros((0, 1, 4)), [[0, 0, 1, 1]]).shape == (0, 1)


def test_mask_box_has_exclusive_right_and_bottom():
    mask = np.zeros((5, 7), bool)
    mask[1, 2] = mask[3, 6] = True
    np.testing.assert_array_equal(mask_to_box(mask), [2, 1, 7, 4])
    np.testing.assert_array_equal(mask_to_box(np.zeros((5, 7), bool)), np.zeros(4))
