"""`sapnet-pipe bags merge`, `import` and `export` as people type them."""

import json
import shlex
import shutil
from pathlib import Path

import fsspec
import pytest

from sapnet_pipe.pipeline.cli import run
from tests.pipeline.one_line import check_message
from tests.pipeline.toy_job import BAGS, snapshot, write_toy


@pytest.fixture(scope="module")
def finished_bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with images, truth.json, points.json and bags."""
    folder = tmp_path_factory.mktemp("bags")
    write_toy(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(shlex.split(f"{BAGS} --out bags")) == 0
    return folder


@pytest.fixture
def job(finished_bags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the working directory."""
    folder = tmp_path / "job"
    shutil.copytree(finished_bags, folder)
    monkeypatch.chdir(folder)
    return folder


def test_parts_of_a_store_made_apart_merge_into_the_undivided_one(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    loud = BAGS.removesuffix(" --quiet")
    for place in (1, 2):
        assert run(shlex.split(f"{loud} --out part{place} --set part={place}/2")) == 0
        assert "Next: sapnet-pipe bags merge part" in capfd.readouterr().out
    assert run(shlex.split("bags merge part1 part2 --out merged --quiet --json")) == 0
    assert json.loads(capfd.readouterr().out)["shards"] == 2
    assert snapshot(job / "merged") == snapshot(job / "bags")
    assert run(shlex.split("bags verify part1 --quiet")) == 0


def test_a_part_is_no_store_for_select(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split(f"{BAGS} --out part1 --set part=1/2")) == 0
    capfd.readouterr()
    assert run(shlex.split("select --bags part1 --images images --out new --method sam-top1 --quiet")) == 2
    check_message(capfd.readouterr().err, "part1/manifest.json * shards * this is a part * bags merge")


def test_a_merge_without_all_parts_names_what_is_missing(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split(f"{BAGS} --out part1 --set part=1/2")) == 0
    capfd.readouterr()
    assert run(shlex.split("bags merge part1 --out merged --quiet")) == 2
    check_message(capfd.readouterr().err, "bags merge * 1 of 2 * bags-00001.parquet * part=K/N")
    assert not (job / "merged").exists()


def test_bags_go_to_the_authors_file_and_back(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split("bags export bags --out sam.json --quiet")) == 0
    assert run(shlex.split("bags import sam.json --out back --set shard_images=2 --quiet --json")) == 0
    result = json.loads(capfd.readouterr().out)
    assert (result["points"], result["dropped"]["boxes_that_differ"]) == (8, 0)
    assert result["layout"] == {"masks": "segmentation", "boxes": "bbox", "scores": "scores"}
    assert run(shlex.split("bags verify back --quiet")) == 0
    assert run(shlex.split("select --bags back --images images --out new --method sam-top1 --quiet")) == 0
    before = json.loads((job / "new/pseudo_labels.json").read_text())["annotations"]
    assert run(shlex.split("select --bags bags --images images --out new2 --method sam-top1 --quiet")) == 0
    assert json.loads((job / "new2/pseudo_labels.json").read_text())["annotations"] == before


def test_a_file_without_masks_is_not_imported(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split("bags import points.json --out back --quiet")) == 2
    check_message(capfd.readouterr().err, "points.json * annotations[0] * without a list of masks * masks_key")
    assert not (job / "back").exists()


def test_unreadable_images_are_counted_by_every_command_and_made_good(
    job: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = (job / "images/3.png").read_bytes()
    (job / "images/3.png").write_bytes(whole[:100])
    command = BAGS.replace(" --quiet", "")
    assert run(shlex.split(f"{BAGS} --out new")) == 2
    check_message(capfd.readouterr().err, "points.json * images[id=3].file_name * 3.png")
    assert run(shlex.split(f"{command} --out new --max-failure-rate 0.3")) == 0
    assert "Note: 1 images could not be read" in capfd.readouterr().out
    assert run(shlex.split("bags verify new --quiet --json")) == 0
    assert json.loads(capfd.readouterr().out)["failed_images"] == 1
    assert run(shlex.split("select --bags new --images images --out run --method sam-top1 --json")) == 0
    said = capfd.readouterr().out
    assert "Note: 1 images with 2 points have no bags" in said
    result = json.loads(said.splitlines()[-1])
    assert result["images_without_bags"] == 1
    assert [f"Note: {note}" for note in result["notes"]] == [line for line in said.splitlines() if line[:5] == "Note:"]
    (job / "images/3.png").write_bytes(whole)
    assert run(shlex.split(f"{command} --out new --retry-failed --quiet")) == 0
    assert snapshot(job / "new") == snapshot(job / "bags")


def test_a_rate_that_is_none_is_refused(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split(f"{BAGS} --out new --max-failure-rate 1.5")) == 2
    check_message(capfd.readouterr().err, "max_failure_rate * 1.5")


def test_a_store_behind_a_url_serves_every_command(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fsspec.filesystem("memory").store.clear()
    assert run(shlex.split(f"{BAGS} --out memory://made/bags")) == 0
    for command in (
        "bags verify memory://made/bags --quiet",
        "bags inspect memory://made/bags --truth truth.json --quiet",
        "select --bags memory://made/bags --images images --out new --method sam-top1 --quiet",
        "select --bags bags --images images --out old --method sam-top1 --quiet",
        "bags export memory://made/bags --out sam.json --quiet",
        "bags merge memory://made/bags --out copy --quiet",
    ):
        assert run(shlex.split(command)) == 0, command
    assert snapshot(job / "copy") == snapshot(job / "bags")
    labels = [(job / name / "pseudo_labels.json").read_text() for name in ("new", "old")]
    assert labels[0] == labels[1]
    capfd.readouterr()
    assert run(shlex.split("bags verify memory://made/nothing --quiet")) == 2
    check_message(capfd.readouterr().err, "memory://made/nothing * manifest.json = missing * generate-bags")


def test_a_part_can_be_inspected_and_says_that_it_is_one(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split(f"{BAGS} --out part1 --set part=1/2")) == 0
    assert run(shlex.split("bags inspect part1")) == 0
    assert "Note: this is a part of a store" in capfd.readouterr().out


def test_a_store_is_described_in_tables(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split("bags inspect bags --truth truth.json --json")) == 0
    *said, last = capfd.readouterr().out.splitlines()
    result, rows = json.loads(last), [line.split() for line in said]
    assert ["points", str(result["points"])] in rows
    for size, count in result["bag_sizes"].items():
        assert [size, str(count), f"{count / result['points']:.1%}"] in rows
    oracle = result["quality"]["oracle"]
    assert ["oracle", f"{oracle['miou']:.3f}", f"{oracle['share_50']:.1%}", f"{oracle['share_75']:.1%}"] in rows
    assert not any("_" in line for line in said if not line.startswith("made by"))


def test_of_many_categories_people_see_the_most_frequent(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    document = json.loads((job / "points.json").read_text())
    document["categories"] = [{"id": n, "name": f"kind {n}"} for n in range(1, 15)]
    template = document["annotations"][0]
    document["annotations"] = [template | {"id": n, "category_id": min(n, 14)} for n in range(1, 17)]
    (job / "points.json").write_text(json.dumps(document))
    assert run(shlex.split(f"{BAGS} --out many")) == 0
    capfd.readouterr()
    assert run(shlex.split("bags inspect many --json")) == 0
    *said, last = capfd.readouterr().out.splitlines()
    shown = [line.split() for line in said if line.startswith(("kind ", "4 others"))]
    assert (len(shown), shown[0][-2], shown[-1][-2]) == (11, "3", "4")
    assert len(json.loads(last)["categories"]) == 14


def test_a_file_cannot_go_to_a_url(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split("bags export bags --out s3://b/sam.json --quiet")) == 2
    check_message(capfd.readouterr().err, "--out * s3://b * a URL * Name a path")
    assert not (job / "s3:").exists()
