import torch

from sapnet_pipe.stages.select.method.pdg import distance_score, guidance, neighbour_distance, same_class_neighbours
from tests.stages.select.method.golden_cases import cases, close


def test_release_guidance_is_reproduced_with_its_power_and_exponent() -> None:
    for case in cases("pdg"):
        neighbours = same_class_neighbours(case["points"], case["labels"])
        distance, _ = neighbour_distance(case["points"], case["boxes"], *neighbours, power=0.5)
        close(distance, case["W"], 2e-6)
        close(guidance(distance), case["S_raw"], 2e-6)
        scores = distance_score(case["points"], case["boxes"], *neighbours, power=0.5, exponent=1 / 64)
        close(scores, case["S_dis"], 2e-6)


def test_paper_guidance_sums_plain_distances() -> None:
    points = torch.tensor([[10.0, 10.0], [13.0, 14.0], [10.0, 20.0], [90.0, 90.0]])
    neighbours = same_class_neighbours(points, torch.zeros(4, dtype=torch.long))
    boxes = torch.tensor([[[0.0, 0, 12, 12], [0, 0, 15, 15], [0, 0, 30, 30]]]).expand(4, 3, 4)
    distance, inside = neighbour_distance(points, boxes, *neighbours)
    assert distance[0].tolist() == [0.0, 5.0, 15.0]
    assert inside[0].tolist() == [0, 1, 2]
    wanted = torch.sigmoid(torch.tensor([1e30, 1 / 5, 1 / 15])) ** 0.015
    close(distance_score(points, boxes, *neighbours)[0], wanted, 1e-6)


def test_a_neighbour_on_the_border_is_not_inside() -> None:
    points = torch.tensor([[5.0, 5.0], [10.0, 5.0]])
    neighbours = same_class_neighbours(points, torch.zeros(2, dtype=torch.long))
    boxes = torch.tensor([[[0.0, 0, 10, 10]], [[0.0, 0, 10, 10]]])
    assert neighbour_distance(points, boxes, *neighbours)[0][0].tolist() == [0.0]


def test_other_classes_and_padding_never_count_as_neighbours() -> None:
    points = torch.tensor([[5.0, 5.0], [6.0, 5.0], [7.0, 5.0]])
    xy, valid = same_class_neighbours(points, torch.tensor([0, 0, 1]))
    assert valid.sum(dim=1).tolist() == [1, 1, 0]
    boxes = torch.tensor([[[0.0, 0, 10, 10]]]).expand(3, 1, 4)
    padded = torch.cat([xy, torch.full((3, 2, 2), 5.5)], dim=1), torch.cat([valid, torch.zeros(3, 2).bool()], dim=1)
    assert torch.equal(neighbour_distance(points, boxes, xy, valid)[0], neighbour_distance(points, boxes, *padded)[0])


def test_a_single_point_and_no_point_at_all_have_no_neighbours() -> None:
    for count in (0, 1):
        points = torch.rand(count, 2)
        xy, valid = same_class_neighbours(points, torch.zeros(count, dtype=torch.long))
        assert xy.shape == (count, 0, 2)
        scores = distance_score(points, torch.rand(count, 3, 4), xy, valid)
        assert torch.equal(scores, torch.ones(count, 3))
