"""`sapnet-pipe bags merge`, `import` and `export` as people type them."""

import json
import shlex
from pathlib import Path

import pytest
from one_line import check_message
from toy_job import BAGS, snapshot

from pipeline.cli import run


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
