import numpy as np
import pytest
import torch

from sapnet_pipe.data.bag_store.masks import FEATURE_COLUMN
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.stages.bags.run import run
from sapnet_pipe.stages.bags.sam.mask_enlarging import innermost_points, pooled_features

SIDE = 64


def _logits(*boxes):
    """(M, 16, 16) logits of rectangles (left, top, right, bottom) in a frame a quarter of SAM's."""
    logits = torch.full((len(boxes), 16, 16), -5.0)
    for row, (left, top, right, bottom) in enumerate(boxes):
        logits[row, top:bottom, left:right] = 5.0
    return logits


def _features():
    """(1, 2, 4, 4): the row and the column of each cell."""
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    return torch.stack([rows, columns])[None]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        pytest.param((0, 0, 4, 4), (0, 0), id="one cell"),
        pytest.param((4, 8, 12, 12), (2, 1.5), id="two cells"),
        pytest.param((2, 0, 8, 4), (0, 2 / 3), id="a cell and half of another"),
        pytest.param((0, 0, 16, 16), (0.5, 1.5), id="everything: the image is 2 cells high, the rest is padding"),
    ],
)
def test_features_are_averaged_over_the_mask_and_within_the_image(box, expected):
    pooled = pooled_features(_features(), _logits(box), 0.0, (32 if box[3] == 16 else 64, 64), SIDE)
    assert pooled.dtype == np.float16
    np.testing.assert_allclose(pooled, [expected], atol=1e-3)


def test_an_empty_mask_takes_the_features_of_its_likeliest_place():
    logits = _logits((0, 0, 0, 0))
    logits[0, 9, 14] = -1.0
    np.testing.assert_allclose(pooled_features(_features(), logits, 0.0, (64, 64), SIDE), [(2, 3)])


def test_the_innermost_point_is_the_middle_of_the_thickest_part():
    logits = _logits((2, 2, 9, 9), (0, 0, 0, 0))
    logits[0, 5, 9:15] = 5.0  # a thin arm
    points = innermost_points(logits, 0.0, (64, 64), (128, 32), SIDE)
    np.testing.assert_allclose(points[0], (5.5 * 2, 5.5 * 8))  # 16 cells are 32 wide and 128 high
    assert np.isnan(points[1]).all()


def test_the_innermost_point_lies_in_the_image():
    points = innermost_points(_logits((0, 0, 16, 16)), 0.0, (32, 64), (30, 60), SIDE)
    assert 0 <= points[0, 0] < 60
    assert 0 <= points[0, 1] < 30


def test_a_store_with_features_has_one_row_for_every_mask(tmp_path, points, images_dir, config):
    settings = config.model_copy(update={"features": True})
    run(points, images_dir, tmp_path / "bags", settings, quiet=True)
    run(points, images_dir, tmp_path / "plain", config, quiet=True)
    with_features, plain = BagStore.open(tmp_path / "bags"), BagStore.open(tmp_path / "plain")
    assert with_features.fingerprint != plain.fingerprint
    for image_id, masks in plain.iter_masks():
        assert with_features.read_masks(image_id) == masks
    features = with_features.read_column(FEATURE_COLUMN).values
    assert features.shape == (len(plain.read_table().masks), 96)
    assert features.dtype == np.float16
    assert np.isfinite(features).all()
