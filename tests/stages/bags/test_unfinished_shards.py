"""What is finished of a shard stays when it is interrupted, and the store ends with the same bytes."""

import numpy as np
import pytest

from sapnet_pipe.data.bag_store.writer import BagWriter, unfinished_name
from sapnet_pipe.stages.bags import executors, worker
from sapnet_pipe.stages.bags.run import run
from tests.stages.bags.conftest import BrightnessSam


class InterruptedSam(BrightnessSam):
    """Is interrupted when it has encoded so many images; counts them."""

    def __init__(self, images=10**9):
        self.left, self.encoded = images, 0

    def encode(self, images):
        if self.left < len(images):
            raise KeyboardInterrupt
        self.left -= len(images)
        self.encoded += len(images)
        return images


@pytest.fixture
def make(tmp_path, points, images_dir, config, monkeypatch):
    """Make a store of the six images, all in one shard, with a SAM; the settings may be changed."""

    def make(name, sam, **changes):
        monkeypatch.setattr(worker, "load_sam", lambda *_: sam)
        return run(
            points, images_dir, tmp_path / name, config.model_copy(update={"shard_images": 6} | changes), quiet=True
        )

    return make


def _bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_finished_image_stays_and_the_bytes_are_those_of_an_undisturbed_run(tmp_path, make):
    make("whole", InterruptedSam())
    encoded = 0
    for images in (2, 1, 2):
        sam = InterruptedSam(images)
        with pytest.raises(KeyboardInterrupt):
            make("cut", sam)
        encoded += sam.encoded
        assert sorted(_bytes_of(tmp_path / "cut")) == ["manifest.partial.json", unfinished_name(0)]
    last = InterruptedSam()
    summary = make("cut", last)
    assert (encoded + last.encoded, summary.images, summary.shards_made) == (6, 6, 1)
    assert _bytes_of(tmp_path / "cut") == _bytes_of(tmp_path / "whole")


def test_the_clock_writes_what_is_finished_for_a_kill(tmp_path, make, monkeypatch):
    make("whole", InterruptedSam())
    monkeypatch.setattr(executors, "_KEEP_SECONDS", 0.0)
    seen = []
    kept = BagWriter.keep_unfinished

    def keep_unfinished(writer, index, content):
        kept(writer, index, content)
        seen.append(content)

    monkeypatch.setattr(BagWriter, "keep_unfinished", keep_unfinished)
    make("cut", InterruptedSam())
    whole, last_kept = _bytes_of(tmp_path / "whole"), seen[-1]
    assert _bytes_of(tmp_path / "cut") == whole
    with pytest.raises(KeyboardInterrupt):
        make("killed", InterruptedSam(1))
    (tmp_path / "killed" / unfinished_name(0)).write_bytes(last_kept)
    last = InterruptedSam()
    make("killed", last)
    assert last.encoded <= 3
    assert _bytes_of(tmp_path / "killed") == whole


def test_photographs_that_failed_before_the_interruption_are_recorded_once(tmp_path, make, images_dir):
    (images_dir / "8.png").write_bytes(b"")
    make("whole", InterruptedSam(), max_failure_rate=0.5)
    with pytest.raises(KeyboardInterrupt):
        make("cut", InterruptedSam(3), max_failure_rate=0.5)
    summary = make("cut", InterruptedSam(), max_failure_rate=0.5)
    assert summary.failed_images == 1
    assert _bytes_of(tmp_path / "cut") == _bytes_of(tmp_path / "whole")


@pytest.mark.parametrize("options", [{}, {"fast": True, "encode_batch": 2}])
def test_a_photograph_mended_since_is_tried_again_when_asked(tmp_path, make, images_dir, options):
    make("whole", InterruptedSam(), **options)
    sound = (images_dir / "8.png").read_bytes()
    (images_dir / "8.png").write_bytes(b"")
    with pytest.raises(KeyboardInterrupt):
        make("cut", InterruptedSam(4), max_failure_rate=0.5, **options)
    (images_dir / "8.png").write_bytes(sound)
    summary = make("cut", InterruptedSam(), max_failure_rate=0.5, retry_failed=True, **options)
    assert summary.failed_images == 0
    assert _bytes_of(tmp_path / "cut") == _bytes_of(tmp_path / "whole")


def test_images_encoded_together_stay_together(tmp_path, make):
    options = {"fast": True, "encode_batch": 2}
    make("whole", InterruptedSam(), **options)
    with pytest.raises(KeyboardInterrupt):
        make("cut", InterruptedSam(3), **options)
    last = InterruptedSam()
    make("cut", last, **options)
    assert last.encoded == 4
    assert _bytes_of(tmp_path / "cut") == _bytes_of(tmp_path / "whole")


def test_a_damaged_file_of_finished_images_is_kept_aside_and_made_again(tmp_path, make):
    make("whole", InterruptedSam())
    with pytest.raises(KeyboardInterrupt):
        make("cut", InterruptedSam(3))
    file = tmp_path / "cut" / unfinished_name(0)
    content = np.frombuffer(file.read_bytes(), np.uint8).copy()
    content[len(content) // 2 :] ^= 7
    file.write_bytes(content.tobytes())
    (aside,) = make("cut", InterruptedSam()).set_aside
    assert aside == f"{file}.damaged"
    assert (tmp_path / "cut" / "bags-00000.parquet").read_bytes() == (
        tmp_path / "whole" / "bags-00000.parquet"
    ).read_bytes()
