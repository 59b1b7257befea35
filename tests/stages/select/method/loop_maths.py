"""The rules of DESIGN section 6 as plain loops over points, masks, neighbours and classes: slow, easy to check.

One image, Python floats. Bags are lists of boxes without padding; a box is [x1, y1, x2, y2].
"""

import math
from collections.abc import Mapping, Sequence

Box = list[float]
Rows = Sequence[Sequence[float]]


def area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def iou(a: Box, b: Box) -> float:
    shared = area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])
    return shared / max(area(a) + area(b) - shared, 1e-6)


def guidance(points: Rows, labels: Sequence[int], i: int, box: Box) -> tuple[float, int]:
    """PDG: sigmoid(1 / W) of point i and one of its boxes, and how many points of its class lie inside."""
    total, count = 0.0, 0
    for j in range(len(points)):
        x, y = points[j]
        if j != i and labels[j] == labels[i] and box[0] < x < box[2] and box[1] < y < box[3]:
            total, count = total + math.hypot(points[i][0] - x, points[i][1] - y), count + 1
    return (1.0 if total == 0 else 1 / (1 + math.exp(-1 / total))), count


def softmax(values: Sequence[float]) -> list[float]:
    top = max(values)
    powers = [math.exp(value - top) for value in values]
    return [power / sum(powers) for power in powers]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def bag_scores(cls: Sequence[Sequence[float]], ins: Rows, s_dis: Sequence[float]) -> list[list[float]]:
    """Class score times in-bag softmax times guidance, for every mask and class."""
    columns = [softmax([row[c] for row in ins]) for c in range(len(ins[0]))]
    return [[cls[m][c] * columns[c][m] * s_dis[m] for c in range(len(cls[m]))] for m in range(len(cls))]


def mine(selected: Box, bag: Sequence[Box], scores: Sequence[float]) -> Box:
    """BMS, Algorithm 2, over the three highest-scored proposals."""
    top = sorted(range(len(bag)), key=lambda m: -scores[m])[:3]
    larger = [bag[m] for m in top if area(bag[m]) > area(selected)]
    over = [box for box in larger if iou(box, selected) > 0.6]
    if over:
        box = max(over, key=lambda other: iou(other, selected))
        v = iou(box, selected)
        return [(p + v * s) / (1 + v) for p, s in zip(box, selected, strict=True)]
    around = [
        box for box in larger if iou(box, selected) > 0.3 and box[0] <= selected[0] and box[1] <= selected[1]
        and box[2] >= selected[2] and box[3] >= selected[3]
    ]  # fmt: skip
    if around:
        box = max(around, key=lambda other: iou(other, selected))
        v = iou(box, selected)
        return [(p * v + s) / (1 + v) for p, s in zip(box, selected, strict=True)]
    return selected


def scaled(box: Box, guided: float, inside: int, height: float, width: float) -> list[Box]:
    """PNPG's twenty boxes about the mined one."""
    factors = [1 + 0.01 * n for n in range(1, 16)]
    factors += [1 - 0.005 * n / guided if inside else 1 + 0.005 * (15 + n) for n in range(1, 6)]
    result = []
    for factor in factors:
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        w, h = (box[2] - box[0]) / 2 * factor, (box[3] - box[1]) / 2 * factor
        result.append([min(max(v, 0.0), limit) for v, limit in
                       zip([x - w, y - h, x + w, y + h], [width, height, width, height], strict=True)])  # fmt: skip
    return result


def random_box(u: Sequence[float], height: float, width: float) -> Box:
    x1, y1 = u[0] * 1.2 * width - 0.2 * width, u[1] * 1.2 * height - 0.2 * height
    return [x1, y1, x1 + u[2] * (1.2 * width - x1), y1 + u[3] * (1.2 * height - y1)]


def focal(p: float, y: float) -> float:
    return -((p - y) ** 2) * (y * math.log(p + 1e-6) + (1 - y) * math.log(1 - p + 1e-6))


def cross_entropy(p: float, y: float) -> float:
    return -(y * max(math.log(p), -100) if y else (1 - y) * max(math.log(1 - p), -100) if p < 1 else -100)


class LoopStep:
    """One training step of one image. Attributes as `step_maths.StepResult`, bags without padding."""

    def __init__(
        self,
        points: Rows,
        labels: Sequence[int],
        bags: Sequence[Sequence[Box]],
        size: tuple[float, float],
        draws: Rows,
        logits: Mapping[str, Sequence[Rows]],
        negative_logits: Rows,
    ) -> None:
        count, height, width = len(points), *size
        self.s_dis: list[list[float]] = []
        self.psm: list[list[float]] = []
        self.prm: list[list[float]] = []
        self.mined: list[Box] = []
        self.positives: list[list[Box]] = []
        self.box: list[Box] = []
        self.parts: list[Box] = []
        self.part_keep: list[bool] = []
        self.loss_psm = self.loss_prm = self.loss_negative = 0.0
        for i in range(count):
            self._psm(points, labels, bags, i, logits, count)
            guided, inside = guidance(points, labels, i, self.mined[i])
            self.positives.append([*bags[i], *scaled(self.mined[i], guided, inside, height, width)])
            self._prm(labels, bags, i, logits, count)
        self.keep = [
            all(iou(box, positive) < 0.3 for bag in self.positives for positive in bag)
            for box in (random_box(u, height, width) for u in draws)
        ]
        for kept, row in zip([*self.keep, *self.part_keep], negative_logits, strict=True):
            if kept:
                self.loss_negative += sum(focal(sigmoid(value), 0.0) for value in row) / count

    def _psm(self, points: Rows, labels: Sequence[int], bags: Sequence[Sequence[Box]], i: int,
             logits: Mapping[str, Sequence[Rows]], count: int) -> None:  # fmt: skip
        bag, label = bags[i], labels[i]
        self.s_dis.append([guidance(points, labels, i, box)[0] ** 0.015 for box in bag])
        scores = bag_scores([softmax(row) for row in logits["psm_cls"][i]], logits["psm_ins"][i], self.s_dis[i])
        self.psm.append([row[label] for row in scores])
        selected = bag[max(range(len(bag)), key=lambda m: self.psm[i][m])]
        self.mined.append(mine(selected, bag, self.psm[i]))
        for c in range(len(scores[0])):
            bag_score = min(1.0, max(0.0, sum(row[c] for row in scores)))
            self.loss_psm += cross_entropy(bag_score, float(c == label)) / count
        x, y = (selected[0] + selected[2]) / 2, (selected[1] + selected[3]) / 2
        w, h = (selected[2] - selected[0]) / 4, (selected[3] - selected[1]) / 4
        self.parts.append([x - w, y - h, x + w, y + h])
        self.part_keep.append(area(selected) > 4096 and iou(self.parts[-1], selected) < 0.5)

    def _prm(self, labels: Sequence[int], bags: Sequence[Sequence[Box]], i: int,
             logits: Mapping[str, Sequence[Rows]], count: int) -> None:  # fmt: skip
        positives, label = self.positives[i], labels[i]
        cls = [[sigmoid(value) for value in row] for row in logits["prm_cls"][i]]
        scores = bag_scores(cls, logits["prm_ins"][i], [1.0] * len(positives))
        self.prm.append([row[label] for row in scores])
        chosen = positives[max(range(len(positives)), key=lambda m: self.prm[i][m])]
        self.box.append(mine(chosen, bags[i], self.prm[i][: len(bags[i])]))
        for c in range(len(scores[0])):
            self.loss_prm += sum(self.psm[i]) * focal(sum(row[c] for row in scores), float(c == label)) / count
