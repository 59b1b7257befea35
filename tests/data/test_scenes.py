"""Rendered scenes: exact truth, the same for the same seed, and hard in the ways that were meant."""

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from sapnet_pipe.data.coco.instances import read_instances
from sapnet_pipe.data.scenes import dataset as seeds
from sapnet_pipe.data.scenes.catalogue import CLASS_NAMES, Part, build_object
from sapnet_pipe.data.scenes.dataset import write_scene_dataset
from sapnet_pipe.data.scenes.scene import Scene, render_scene, with_parts_scaled
from sapnet_pipe.data.scenes.shapes import rectangle
from sapnet_pipe.data.scenes.styles import NEW_STYLES

SEEDS = range(40)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [render_scene(seed) for seed in SEEDS]


def test_the_same_seed_gives_the_same_pixels(scenes: list[Scene]) -> None:
    again = render_scene(SEEDS[3])
    assert np.array_equal(again.image, scenes[3].image)
    assert np.array_equal(again.instance_map, scenes[3].instance_map)
    assert not np.array_equal(again.image, scenes[4].image)


def test_the_demos_scenes_are_those_of_before() -> None:
    # The demo's figures and the tiny SAM's training rest on them.
    content = hashlib.sha256()
    for seed in (0, 7, seeds.DEMO_TRAIN[3], seeds.DEMO_TEST[7]):
        scene = render_scene(seed)
        content.update(scene.instance_map.tobytes())
        content.update(scene.part_map.tobytes())
    assert content.hexdigest()[:16] == "943e994b551c1c51"


def test_the_new_styles_differ_in_groups_sizes_and_number() -> None:
    crowded, sparse, small = (
        [render_scene(seed, style=NEW_STYLES[name]) for seed in seeds.NEW_SETS[name][:30]]
        for name in ("crowded", "sparse", "small")
    )
    assert objects(sparse) < objects([render_scene(seed) for seed in range(30)]) < objects(crowded)
    assert median_area(small) < 1024 < median_area(sparse)
    assert grouped(crowded) > 1.5 * grouped(sparse)


def test_parts_are_scaled_about_their_own_centres_and_the_largest_stays() -> None:
    body, wheel = Part((rectangle(-1, -0.5, 1, 0.5),), 0), Part((rectangle(0.25, 0.25, 0.75, 0.75),), 3)
    same, larger = with_parts_scaled([body, wheel], 2.0)
    assert same is body
    assert larger.polygons[0].tolist() == rectangle(0, 0, 1, 1).tolist()


def objects(scenes: list[Scene]) -> float:
    return float(np.mean([len(scene.class_index) for scene in scenes]))


def grouped(scenes: list[Scene]) -> float:
    return float(np.mean([group >= 0 for scene in scenes for group in scene.group]))


def median_area(scenes: list[Scene]) -> float:
    return float(np.median(np.concatenate([np.bincount(scene.instance_map.ravel())[1:] for scene in scenes])))


def test_every_instance_and_part_is_visible_and_numbered_densely(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert set(np.unique(scene.instance_map)) - {0} == set(range(1, len(scene.class_index) + 1))
        assert set(np.unique(scene.part_map)) - {0} == set(range(1, len(scene.part_instance) + 1))
        assert len(scene.group) == len(scene.class_index)


def test_a_part_lies_within_its_instance(scenes: list[Scene]) -> None:
    for scene in scenes:
        for part, instance in enumerate(scene.part_instance):
            assert (scene.instance_map[scene.part_map == part + 1] == instance + 1).all()


def test_groups_hold_at_least_two_objects_of_one_class(scenes: list[Scene]) -> None:
    grouped = 0
    for scene in scenes:
        for group in set(scene.group) - {-1}:
            members = [scene.class_index[i] for i, g in enumerate(scene.group) if g == group]
            assert len(members) >= 2
            assert len(set(members)) == 1
            grouped += len(members)
    share = grouped / sum(len(scene.class_index) for scene in scenes)
    assert 0.15 < share < 0.6


def test_all_classes_occur(scenes: list[Scene]) -> None:
    assert {index for scene in scenes for index in scene.class_index} == set(range(len(CLASS_NAMES)))


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_objects_fill_about_their_frame(name: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        parts = build_object(name, rng.uniform(-1, 1, 6), rng)
        vertices = np.concatenate([polygon for part in parts for polygon in part.polygons])
        assert np.abs(vertices).max() < 1.35
        assert (np.ptp(vertices, axis=0) > 0.7).all()


def test_seed_ranges_do_not_overlap() -> None:
    ranges = [seeds.DEMO_TRAIN, seeds.DEMO_TEST, seeds.TINY_SAM_TEST, seeds.TINY_SAM_TRAIN, *seeds.NEW_SETS.values()]
    ordered = sorted(ranges, key=lambda r: r.start)
    assert all(before.stop <= after.start for before, after in pairwise(ordered))


def test_a_scene_data_set_is_read_by_our_reader_and_by_pycocotools(tmp_path: Path) -> None:
    truth = write_scene_dataset(tmp_path, [5, 6], quiet=True)
    dataset = read_instances(truth)
    assert len(dataset.images) == 2
    scene = render_scene(5)
    first = [a for a in dataset.annotations if a.image_id == 1]
    assert [a.category_id - 1 for a in first] == list(scene.class_index)
    coco = COCO(str(truth))
    mask = coco.annToMask(coco.anns[first[0].annotation_id])
    assert np.array_equal(mask.astype(bool), scene.instance_map == 1)


def test_a_scene_data_set_is_byte_identical_when_made_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_scene_dataset(tmp_path / name, [7], quiet=True)
    for file in ("instances.json", "images/scene_7.png"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
