import torch

from sapnet_pipe.stages.select.method.pdg import neighbour_distance, same_class_neighbours
from sapnet_pipe.stages.select.method.pnpg import scaled_boxes
from tests.stages.select.method.golden_cases import cases, close

SIZE = torch.tensor([[1000.0, 2000.0]])
BOX = torch.tensor([[100.0, 200, 300, 300]])


def test_boxes_grow_about_the_centre_of_the_mined_box() -> None:
    boxes = scaled_boxes(BOX, torch.zeros(1), torch.zeros(1), SIZE)[0]
    assert boxes.shape == (20, 4)
    close(boxes[0], torch.tensor([99.0, 199.5, 301, 300.5]), 1e-6)
    close(boxes[14], torch.tensor([85.0, 192.5, 315, 307.5]), 1e-6)
    close(boxes[15], torch.tensor([92.0, 196, 308, 304]), 1e-6)
    close(boxes[19], torch.tensor([90.0, 195, 310, 305]), 1e-6)


def test_a_neighbour_inside_shrinks_the_last_five() -> None:
    near = scaled_boxes(BOX, torch.tensor([1.0]), torch.ones(1), SIZE)[0]
    far = scaled_boxes(BOX, torch.tensor([1e6]), torch.ones(1), SIZE)[0]
    close(far[15], torch.tensor([101.0, 200.5, 299, 299.5]), 1e-5)  # sigmoid(0) = 0.5: one step is 1 %
    close(far[19], torch.tensor([105.0, 202.5, 295, 297.5]), 1e-5)
    assert (near[15:, 0] < far[15:, 0]).all()
    assert torch.equal(near[:15], far[:15])


def test_a_coincident_neighbour_still_shrinks() -> None:
    # The release asks whether the score is exactly 1 and misses a neighbour at distance 0.
    boxes = scaled_boxes(BOX, torch.zeros(1), torch.ones(1), SIZE)[0]
    close(boxes[15], torch.tensor([100.5, 200.25, 299.5, 299.75]), 1e-5)


def test_boxes_stay_in_the_image() -> None:
    boxes = scaled_boxes(torch.tensor([[0.0, 0, 2000, 1000]]), torch.zeros(1), torch.zeros(1), SIZE)[0]
    assert torch.equal(boxes, torch.tensor([0.0, 0, 2000, 1000]).expand(20, 4))


def test_scaling_equals_the_release_when_the_mined_box_is_its_base() -> None:
    # The release scales the bag box within 1 px of the mined one, else the last bag box: an oddity, not compared.
    # It clips at 0 only; both are compared within the image.
    compared = 0
    for case in cases("ppg"):
        rows = torch.arange(len(case["boxes"]))
        base = case["boxes"][rows, case["base_index"]]
        neighbours = same_class_neighbours(case["points"], case["labels"])
        distance, inside = neighbour_distance(case["points"], base[:, None], *neighbours, power=0.5)
        by_score = case["S_raw"][rows, case["base_index"]] == 1
        shared = by_score == (inside[:, 0] == 0)
        size = case["img_hw"].float().expand(len(rows), 2)
        limit = size.flip(-1).repeat(1, 2)[:, None]
        ours = scaled_boxes(base, distance[:, 0], inside[:, 0], size)
        close(ours[shared], torch.minimum(case["positives"][:, 6:], limit)[shared], 5e-5)
        compared += int(shared.sum())
    assert compared > 20


def test_no_bags_give_no_positives() -> None:
    assert scaled_boxes(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), torch.zeros(0, 2)).shape == (0, 20, 4)
