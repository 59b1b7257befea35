import dataclasses
import errno
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.coco.instances import ImageRecord
from sapnet_pipe.data.coco.masks import decode_masks
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.points.reader import read_points, write_points
from sapnet_pipe.stages.bags import worker
from sapnet_pipe.stages.bags.config import BagsConfig
from sapnet_pipe.stages.bags.run import run
from sapnet_pipe.stages.bags.worker import BagWorker

quick = pytest.mark.usefixtures("brightness_sam")


def _bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_point_gets_a_bag_and_every_figure_is_in_the_summary(tmp_path, points, images_dir, config):
    summary = run(points, images_dir, tmp_path / "bags", config, quiet=True)
    store = BagStore.open(tmp_path / "bags")
    table = store.read_table()
    np.testing.assert_array_equal(table.point_id, points.point_id)
    np.testing.assert_array_equal(table.image_id, points.image_id)
    np.testing.assert_array_equal(table.category_id, points.category_id)
    np.testing.assert_array_equal(table.point_xy, points.xy)
    assert (summary.images, summary.points, summary.masks) == (6, 12, len(table.masks))
    assert (summary.shards, summary.shards_made, summary.already_complete) == (3, 3, False)
    assert summary.dropped["images_without_points"] == 1
    assert Path(summary.manifest).is_file()
    plain = json.loads(json.dumps(summary.to_dict()))
    assert (plain["out"], plain["already_complete"]) == (str(tmp_path / "bags"), False)
    assert {entry.images for entry in store.manifest.shards} == {2}


@quick
def test_the_summary_says_how_the_time_was_spent(tmp_path, points, images_dir, config):
    first = run(points, images_dir, tmp_path / "bags", config, quiet=True)
    assert first.images_per_second is not None
    assert first.images_per_second > 0
    shares = [share for share in (first.encoder_share, first.decoder_share, first.host_share) if share is not None]
    assert (len(shares), sum(shares)) == (3, pytest.approx(1, abs=1e-3))
    again = run(points, images_dir, tmp_path / "bags", config, quiet=True)
    assert (again.images_per_second, again.encoder_share, again.decoder_share, again.host_share) == (None,) * 4


@quick
def test_before_it_starts_a_run_says_what_is_still_to_do(tmp_path, points, images_dir, config, capfd):
    run(points, images_dir, tmp_path / "bags", config)
    assert "to do: 6 images, 12 points, 3 shards; about 21.6 kB on disk (" in capfd.readouterr().err
    (tmp_path / "bags" / "bags-00001.parquet").unlink()
    run(points, images_dir, tmp_path / "bags", config)
    assert "to do: 2 images, 4 points, 1 shards" in capfd.readouterr().err


@quick
def test_boxes_areas_and_masks_lie_in_the_annotated_image(tmp_path, points, images_dir, config):
    run(points, images_dir, tmp_path / "bags", config, quiet=True)
    store = BagStore.open(tmp_path / "bags")
    table = store.read_table()
    row = 0
    for _, masks in store.iter_masks():
        for counts in masks.values():
            decoded = decode_masks(counts, int(table.height[row]), int(table.width[row]))
            own = slice(table.offsets[row], table.offsets[row + 1])
            np.testing.assert_array_equal(decoded.sum(axis=(1, 2)), table.masks.area[own])
            row += 1
    assert row == len(table)


def test_a_bag_does_not_depend_on_the_other_points_and_images(tmp_path, points, images_dir, config):
    run(points, images_dir, tmp_path / "all", config, quiet=True)
    one = points.point_id == points.point_id[4]
    alone = dataclasses.replace(
        points, **{name: getattr(points, name)[one] for name in ("image_id", "point_id", "category_id", "xy")}
    )
    run(alone, images_dir, tmp_path / "one", config, quiet=True)
    image_id, point_id = int(points.image_id[4]), int(points.point_id[4])
    masks = [BagStore.open(tmp_path / name).read_masks(image_id)[point_id] for name in ("all", "one")]
    assert masks[0] == masks[1]


@quick
def test_a_second_run_finds_the_store_complete_and_touches_nothing(tmp_path, points, images_dir, config):
    run(points, images_dir, tmp_path / "bags", config, quiet=True)
    before = _bytes_of(tmp_path / "bags")
    summary = run(points, images_dir, tmp_path / "bags", config, quiet=True)
    assert summary.already_complete
    assert (summary.shards, summary.shards_made) == (3, 0)
    assert _bytes_of(tmp_path / "bags") == before


@pytest.mark.parametrize(
    ("field", "value"), [("recipe", "multimask"), ("shard_images", 3), ("fast", True), ("features", True)]
)
@quick
def test_a_store_of_other_settings_is_refused(tmp_path, points, images_dir, config, field, value):
    run(points, images_dir, tmp_path / "bags", config, quiet=True)
    before = _bytes_of(tmp_path / "bags")
    named = {"fast": "precision", "features": "recipe_settings.features"}.get(field, field)
    with pytest.raises(UserError, match=f"{named} = "):
        run(points, images_dir, tmp_path / "bags", config.model_copy(update={field: value}), quiet=True)
    assert _bytes_of(tmp_path / "bags") == before


@quick
def test_changed_points_make_another_store(tmp_path, points, images_dir, config):
    run(points, images_dir, tmp_path / "bags", config, quiet=True)
    write_points(points.source, dataclasses.replace(points, xy=points.xy + 1))
    with pytest.raises(UserError, match="points_sha256"):
        run(read_points(points.source), images_dir, tmp_path / "bags", config, quiet=True)


def _failing(monkeypatch, after, error):
    """Let the shards before number `after` be made, then raise."""
    original = BagWorker.make_shard
    made: list[None] = []

    def make_shard(*arguments, **options):
        if len(made) == after:
            raise error
        made.append(None)
        return original(*arguments, **options)

    monkeypatch.setattr(BagWorker, "make_shard", make_shard)


@quick
def test_an_interrupted_run_goes_on_where_it_stood_and_ends_the_same(tmp_path, points, images_dir, config, monkeypatch):
    run(points, images_dir, tmp_path / "whole", config, quiet=True)
    with monkeypatch.context() as patch:
        _failing(patch, 1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run(points, images_dir, tmp_path / "cut", config, quiet=True)
    assert sorted(_bytes_of(tmp_path / "cut")) == ["bags-00000.parquet", "manifest.partial.json"]
    summary = run(points, images_dir, tmp_path / "cut", config, quiet=True)
    assert summary.shards_made == 2
    assert _bytes_of(tmp_path / "cut") == _bytes_of(tmp_path / "whole")


@quick
def test_a_failure_before_the_first_shard_leaves_no_folder(tmp_path, points, images_dir, config, monkeypatch):
    _failing(monkeypatch, 0, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(points, images_dir, tmp_path / "bags", config, quiet=True)
    assert not (tmp_path / "bags").exists()


@quick
def test_a_full_disk_is_the_users_to_fix_and_finished_shards_stay(tmp_path, points, images_dir, config, monkeypatch):
    original = Path.write_bytes

    def write_bytes(path, content):
        if "bags-00001" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return original(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_bytes)
        with pytest.raises(UserError, match="the disk is full"):
            run(points, images_dir, tmp_path / "bags", config, quiet=True)
    kept = {name for name in _bytes_of(tmp_path / "bags") if not name.startswith("unfinished")}
    assert kept == {"bags-00000.parquet", "manifest.partial.json"}
    assert run(points, images_dir, tmp_path / "bags", config, quiet=True).shards_made == 2


@quick
def test_a_limit_on_file_sizes_is_the_users_to_fix(tmp_path, points, images_dir, config):
    resource = pytest.importorskip("resource", reason="limits on file sizes are set so on POSIX systems alone")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(UserError, match="limit on file sizes"):
            run(points, images_dir, tmp_path / "bags", config, quiet=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "bags").exists()


def _remove(path):
    path.unlink()


def _truncate(path):
    Image.open(path).save(path, "JPEG")  # of a PNG already the header's reader would notice
    path.write_bytes(path.read_bytes()[:900])


def _fill_with_words(path):
    path.write_bytes(b"not an image")


def _resize(path):
    Image.open(path).resize((20, 20)).save(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(_remove, "no such image", id="missing"),
        pytest.param(_fill_with_words, "not an image", id="not an image"),
        pytest.param(_resize, "20 wide", id="of another size"),
    ],
)
def test_a_bad_image_is_found_before_sam_is_loaded(tmp_path, points, images_dir, config, monkeypatch, damage, message):
    damage(images_dir / "5.png")
    monkeypatch.setattr(worker, "load_sam", None)
    with pytest.raises(UserError, match=rf"points\.json: images\[id=23\]\.file_name.*{message}"):
        run(points, images_dir, tmp_path / "bags", config, quiet=True)
    assert not (tmp_path / "bags").exists()


@quick
def test_a_truncated_image_names_the_points_file_and_leaves_what_is_finished(tmp_path, points, images_dir, config):
    _truncate(images_dir / "5.png")
    with pytest.raises(UserError, match=r"points\.json: images\[id=23\]\.file_name.*damaged image"):
        run(points, images_dir, tmp_path / "bags", config, quiet=True)
    finished = ["bags-00000.parquet", "bags-00001.parquet", "manifest.partial.json"]
    assert sorted(_bytes_of(tmp_path / "bags")) == finished


@quick
def test_an_image_without_points_is_not_even_looked_for(tmp_path, points, images_dir, config):
    (images_dir / "3.png").unlink()
    assert run(points, images_dir, tmp_path / "bags", config, quiet=True).images == 6


@pytest.mark.parametrize("name", ["../points.json", "/etc/passwd", ""])
@quick
def test_a_file_name_that_leaves_the_image_folder_is_refused(tmp_path, points, images_dir, config, name):
    images = points.images | {11: ImageRecord(11, name, 48, 64)}
    with pytest.raises(UserError, match=r"images\[id=11\]\.file_name.*(leaves the image folder|is not a file name)"):
        run(dataclasses.replace(points, images=images), images_dir, tmp_path / "bags", config, quiet=True)


@pytest.mark.parametrize("name", ["nowhere", "points.json"])
@quick
def test_an_image_folder_that_is_none_is_refused(tmp_path, points, config, name):
    with pytest.raises(UserError, match=f"{name}: images"):
        run(points, tmp_path / name, tmp_path / "bags", config, quiet=True)


@quick
def test_no_points_are_refused(tmp_path, points, images_dir, config):
    empty = {name: getattr(points, name)[:0] for name in ("image_id", "point_id", "category_id", "xy")}
    with pytest.raises(UserError, match="nothing to make bags of"):
        run(dataclasses.replace(points, **empty), images_dir, tmp_path / "bags", config, quiet=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"device": "cuda:99"}, "device = cuda:99", id="no such device"),
        pytest.param({"checkpoint": Path("none.pt")}, "none.pt", id="no such checkpoint"),
    ],
)
@quick
def test_settings_that_cannot_work_leave_no_folder(tmp_path, points, images_dir, config, change, message):
    with pytest.raises(UserError, match=message):
        run(points, images_dir, tmp_path / "bags", config.model_copy(update=change), quiet=True)
    assert not (tmp_path / "bags").exists()


@quick
def test_a_quiet_run_writes_nothing_on_the_terminal(tmp_path, points, images_dir, config, capfd):
    run(points, images_dir, tmp_path / "bags", config, quiet=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("values", [{"sam": "vit_x"}, {"recipe": "six"}, {"shard_images": 0}, {"colour": 1}])
def test_settings_are_checked(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        BagsConfig(**values)
