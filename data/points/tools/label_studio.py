"""Label Studio: the exports JSON and JSON-MIN with `keypointlabels`, in percent of the original photograph.

Of several annotations of one task the one marked as ground truth is taken, else the first that was not cancelled; the
others are counted. Regions without a keypoint label are left out and counted.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from sapnet_pipe.data.points.click_file import ClickForm, PointsFile
from sapnet_pipe.data.points.marked_photos import Mark, MarkedPhoto, declared_size

FORM = ClickForm("Label Studio", slack=1.0)
_IMAGE_KEYS = ("image", "img", "image_url", "url")


def recognises(file: PointsFile) -> bool:
    """A list of tasks with `data` and `annotations`, or of flat ones with lists of key points."""
    root = file.json_or_none
    tasks = [task for task in root if isinstance(task, dict)] if isinstance(root, list) else []
    return any(_is_task(task) or _regions(task) for task in tasks)


def photos(file: PointsFile, dropped: Counter[str]) -> Iterator[MarkedPhoto]:
    """A photograph a task, also those without a point."""
    for number, task in enumerate(file.json):
        where = f"[{number}]"
        if _is_task(task):
            results = _chosen(task.get("annotations", task.get("completions")), dropped)
            regions = [(result.get("value", {}), result) for result in results]
            data = task["data"]
        else:
            regions, data = [(value, value) for value in _regions(task)], task
        marks, size = list[Mark](), None
        for place, (value, region) in enumerate(regions):
            labels = value.get("keypointlabels")
            if not labels or "x" not in value:
                dropped["regions_without_keypoint_label"] += 1
                continue
            size = size or declared_size(region.get("original_height"), region.get("original_width"))
            marks.append(Mark(value["x"], value["y"], str(labels[0]), f"{where}.result[{place}]"))
        yield MarkedPhoto(_image_name(data), f"{where}.data", marks, size, unit=100.0)


def _is_task(task: dict[str, Any]) -> bool:
    return isinstance(task.get("data"), dict) and ("annotations" in task or "completions" in task)


def _regions(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The regions of a flat task: those of all its lists of objects with key points."""
    lists = (value for value in task.values() if isinstance(value, list))
    return [one for value in lists for one in value if isinstance(one, dict) and "keypointlabels" in one]


def _chosen(annotations: list[dict[str, Any]], dropped: Counter[str]) -> list[dict[str, Any]]:
    kept = [one for one in annotations if not one.get("was_cancelled")]
    dropped["further_annotations_of_a_task"] += max(len(annotations) - 1, 0)
    best = next((one for one in kept if one.get("ground_truth")), kept[0] if kept else {})
    return list(best.get("result", []))


def _image_name(data: dict[str, Any]) -> Any:
    """The value of a usual key, else the first text that looks like a path."""
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    first = next((text for text in texts.values() if "." in text), None)
    return next((texts[key] for key in _IMAGE_KEYS if key in texts), first)
