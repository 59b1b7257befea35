"""The exact path against the package's own `SamPredictor`, bit for bit."""

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import Sam
from segment_anything.utils.amg import batched_mask_to_box, calculate_stability_score

from sapnet_pipe.data.coco.instances import ImageRecord
from sapnet_pipe.data.coco.masks import decode_masks
from sapnet_pipe.stages.bags.recipes import RECIPES, Point, make_bag, prompt
from sapnet_pipe.stages.bags.sam.adapter import SamPrompter, load_sam
from sapnet_pipe.stages.bags.sam.checkpoints import TINY_WEIGHTS
from sapnet_pipe.stages.bags.tiny_sam.model import build_tiny_sam


def _points(image, count):
    height, width = image.shape[:2]
    xy = np.random.default_rng(height * width).uniform(0, (width, height), (count, 2)).astype(np.float32)
    return [tuple(point) for point in xy.tolist()]


def _assert_bag_is_predictors(prompter, encoded, predictor, image, point_xy):
    height, width = image.shape[:2]
    record, recipe = ImageRecord(1, "a.jpg", height, width), RECIPES["multimask"]
    (prompted,) = prompt(prompter, encoded, [Point(1, 1, point_xy)], recipe)
    bag, dropped = make_bag(record, prompted, recipe)
    ask = {"point_coords": np.array([point_xy]), "point_labels": np.ones(1, int), "multimask_output": True}
    masks, scores, _ = predictor.predict(**ask)
    logits, _, _ = predictor.predict(**ask, return_logits=True)
    filled = masks.any(axis=(1, 2))
    assert dropped["empty_masks"] == (~filled).sum()
    assert filled.any()
    inclusive = batched_mask_to_box(torch.as_tensor(masks[filled])).numpy()
    boxes = inclusive + np.array([0, 0, 1, 1])  # ours end after the last pixel
    np.testing.assert_array_equal(decode_masks(bag.masks.rle, height, width), masks[filled])
    np.testing.assert_array_equal(bag.masks.score, scores[filled])
    np.testing.assert_array_equal(bag.masks.box_xyxy, boxes)
    np.testing.assert_array_equal(bag.masks.area, masks[filled].sum(axis=(1, 2)))
    np.testing.assert_array_equal(bag.masks.source, np.flatnonzero(filled) + 1)
    stability = calculate_stability_score(torch.as_tensor(logits[filled]), 0.0, 1.0).numpy()
    np.testing.assert_array_equal(bag.masks.stability, stability)


def _compare(prompter, predictor, image, count):
    predictor.set_image(image)
    (encoded,) = prompter.encode([prompter.prepare(image)])
    assert torch.equal(encoded.features, predictor.features)
    for point_xy in _points(image, count):
        _assert_bag_is_predictors(prompter, encoded, predictor, image, point_xy)


def _tiny_predictor():
    sam = build_tiny_sam()
    sam.load_state_dict(torch.load(TINY_WEIGHTS, weights_only=True))
    return SamPredictor(sam.eval())


def _noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(_noise(97, 256), id="at SAM's own width"),
        pytest.param(_noise(31, 17), id="tiny and upright"),
        pytest.param(_noise(1900, 2300), id="so large that masks are enlarged one by one"),
        pytest.param(_noise(3, 500), id="a strip"),
    ],
)
def test_tiny_sam_gives_the_predictors_masks_on_images_of_every_shape(tiny_sam, image):
    _compare(tiny_sam, _tiny_predictor(), image, 2)


def test_tiny_sam_gives_the_predictors_masks_on_photographs(tiny_sam, photographs):
    predictor = _tiny_predictor()
    for image in photographs:
        _compare(tiny_sam, predictor, image, 4)


def test_the_best_token_for_a_point_with_a_box_is_the_predictors(tiny_sam, photographs):
    image, predictor = photographs[0], _tiny_predictor()
    height, width = image.shape[:2]
    predictor.set_image(image)
    (encoded,) = tiny_sam.encode([tiny_sam.prepare(image)])
    points = np.array(_points(image, 4))
    boxes = np.concatenate([np.maximum(points - 50, 0), np.minimum(points + 70, (width, height))], 1).astype(np.float32)
    tiny_sam.point_masks(encoded, points)  # what is shared between prompts must not show
    for point, box, made in zip(points, boxes, tiny_sam.box_masks(encoded, points, boxes), strict=True):
        prompts = {"point_coords": point[None], "point_labels": np.ones(1, int), "box": box - (0, 0, 1, 1)}
        answers = [predictor.predict(**prompts, multimask_output=several) for several in (False, True)]
        masks, scores = (np.concatenate([answer[part] for answer in answers]) for part in (0, 1))
        best = int(scores.argmax())
        assert (made.figures.source.tolist(), made.figures.score.tolist()) == ([best], [scores[best]])
        np.testing.assert_array_equal(decode_masks([made.make_rle[0]()], height, width)[0], masks[best])


def _random_vit_b() -> Sam:
    """ViT-B with random weights, also where the package starts from zeros (position codes)."""
    torch.manual_seed(0)
    sam = sam_model_registry["vit_b"]().eval()
    with torch.no_grad():
        for name, parameter in sam.named_parameters():
            if "pos" in name:
                parameter.normal_(std=0.02)
    return sam


def test_vit_b_geometry_gives_the_predictors_masks(photographs):
    """One of ViT-B's windowed blocks, to be quick, and everything around the blocks."""
    sam = _random_vit_b()
    sam.image_encoder.blocks = sam.image_encoder.blocks[1:2]
    _compare(SamPrompter(sam), SamPredictor(sam), photographs[0], 1)


@pytest.mark.slow
def test_vit_b_from_a_checkpoint_gives_the_predictors_masks_on_photographs(tmp_path, photographs):
    sam = _random_vit_b()
    torch.save(sam.state_dict(), tmp_path / "vit_b.pth")
    prompter = load_sam("vit_b", tmp_path / "vit_b.pth", torch.device("cpu"))
    predictor = SamPredictor(sam)
    for image in photographs:
        _compare(prompter, predictor, image, 2)
