"""`doctor` tells what has to be fixed, in files and on the machine, and survives packages that do not."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sapnet_pipe.data.checks.findings import Findings
from sapnet_pipe.data.files import sha256_file
from sapnet_pipe.pipeline.cli import run
from sapnet_pipe.pipeline.doctor.backbone_weights import check_backbone_weights
from sapnet_pipe.pipeline.doctor.estimate import estimate_bags, estimate_trainings
from sapnet_pipe.pipeline.doctor.packages import (
    OPTIONAL,
    REQUIRED,
    Package,
    check_packages,
    fitting_torchvision,
    table_of,
)
from sapnet_pipe.pipeline.doctor.probe import Probe, probe_packages
from sapnet_pipe.pipeline.doctor.sam_weights import check_sam_weights
from sapnet_pipe.stages.bags.sam.checkpoints import OFFICIAL, TINY_WEIGHTS, OfficialCheckpoint
from sapnet_pipe.stages.training.forecast import spoken_time
from tests.pipeline.toy_job import snapshot, write_toy
from tests.places import child_environment


@pytest.fixture(scope="module")
def probes() -> dict[str, Probe]:
    """The real packages of this environment, asked once."""
    return probe_packages([*REQUIRED, *OPTIONAL], speed="cpu")


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probes: dict[str, Probe]) -> Path:
    """A small sound set in the working directory."""
    write_toy(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAPNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("sapnet_pipe.pipeline.doctor.run.probe_packages", lambda *_, **__: probes)
    return tmp_path


def _edit(path: Path, change: Callable[[dict], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


SOUND = "doctor --images images --points points.json --labels truth.json --sam tiny"


def test_a_sound_machine_and_set_has_nothing_to_fix(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(toy)
    assert run(shlex.split(f"{SOUND} --json")) == 0
    page, line = capsys.readouterr().out.rstrip().rsplit("\n", 1)
    assert page.endswith("Nothing has to be fixed.")
    result = json.loads(line)
    assert result["ok"]
    assert result["mend"] == []
    assert result["files"]["points"]["objects"] == result["files"]["labels"]["objects"] == 8
    assert result["files"]["points"]["decoded"] == 4
    assert result["estimate"]["points"] == 8
    assert result["packages"]["torch"]["version"]
    assert result["machine"]["cores"] >= 1
    assert snapshot(toy) == before, "something was written"


def test_what_is_wrong_ends_the_page_and_the_command_with_2(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _edit(toy / "points.json", lambda d: d["annotations"][0].update(point=[300, 5]))
    _edit(toy / "truth.json", lambda d: d["annotations"][3].update(segmentation={"size": [64, 64], "counts": "b'1'"}))
    (toy / "images" / "2.png").unlink()
    assert run([*shlex.split(SOUND), "--json"]) == 2
    page, line = capsys.readouterr().out.rstrip().rsplit("\n", 1)
    ending = page.partition("To fix, most urgent first")[2]
    for part in (
        "1 of 8 points lie outside",
        "point[0] = 300, but image 1 is 64 wide",
        "2.png",
        "b'1'",
        "Give points in original pixels",
    ):
        assert part in ending
    kinds = {found["kind"] for found in json.loads(line)["mend"]}
    assert kinds == {"points-off-image", "masks-bytes-as-text", "photographs-missing"}


def test_quiet_prints_only_what_has_to_be_fixed(toy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--points", "none.json", "--quiet"]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert "To fix, most urgent first (1)" in said.err
    assert "none.json" in said.err
    assert run(["doctor", "--quiet"]) == 0
    said = capfd.readouterr()
    assert said.out == said.err == ""


def test_a_points_file_is_written_anew_with_its_faults_put_right(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def spoil(document: dict) -> None:
        document["annotations"][1]["id"] = document["annotations"][0]["id"]
        document["annotations"][2]["point"] = [9999, 1]

    count = len(json.loads((toy / "points.json").read_text())["annotations"])
    _edit(toy / "points.json", spoil)
    before = snapshot(toy)
    command = shlex.split(f"{SOUND} --write-fixed fixed.json --json")
    assert run(command) == 0
    told = capsys.readouterr().out
    assert f"{count - 1} points are written to fixed.json" in told
    assert "generate-bags --images images --points fixed.json" in told
    assert json.loads(told.splitlines()[-1])["fixed"]["ok"]
    assert snapshot(toy).items() >= before.items()
    assert run(command) == 2  # nothing is written over
    assert "fixed.json, which exists" in capsys.readouterr().err
    assert run(shlex.split("doctor --points fixed.json --images images --sam tiny --quiet")) == 0

    next((toy / "images").iterdir()).unlink()
    assert run(shlex.split(f"{SOUND} --write-fixed again.json")) == 2
    assert "to fix still: 1 photographs are not in the folder" in capsys.readouterr().out
    assert run(shlex.split("doctor --write-fixed none.json")) == 2


def test_a_folder_alone_is_looked_through(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (toy / "images" / "x.jpg").write_bytes(b"\xff\xd8\xff")
    assert run(["doctor", "--images", "images"]) == 2
    assert "x.jpg" in capsys.readouterr().out


def test_a_wrong_setting_is_one_line(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--set", "decod=3"]) == 2
    assert "decod = 3, no such setting" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_named(
    toy: Path, probes: dict[str, Probe], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = replace(probes["torch"], details={"cuda": [], "mps": False, "speed_error": "RuntimeError: no driver. See"})
    monkeypatch.setattr("sapnet_pipe.pipeline.doctor.run.probe_packages", lambda *_, **__: probes | {"torch": torch})
    assert run(["doctor", "--device", "cuda:3"]) == 2
    assert "cuda:3: RuntimeError: no driver" in capsys.readouterr().out


def test_a_package_that_kills_its_process_is_reported_and_the_next_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "dies": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "leaves": "import os; os._exit(3)",
        "raises": "raise RuntimeError('operator nms does not exist')",
        "exits": "raise SystemExit(1)",
        "lacks": "import not_there_at_all",
        "prints": "print('hello'); __version__ = '1.2'",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = probe_packages(["dies", "leaves", "raises", "exits", "lacks", "prints", "never_heard_of"])
    assert found["dies"].error == "importing it ends the process (signal 9)"
    assert found["leaves"].error == "importing it ends the process (exit code 3)"
    assert found["raises"].error == "RuntimeError: operator nms does not exist"
    assert found["exits"].error
    assert not found["exits"].missing
    assert found["lacks"].error
    assert not found["lacks"].missing, "it is there, but what it needs is not"
    assert found["prints"] == Probe("prints", "1.2", False, None, {"file": str(tmp_path / "prints.py")})
    assert found["never_heard_of"].missing


def test_the_command_line_survives_when_every_package_is_broken(tmp_path: Path) -> None:
    for name in ("torch", "torchvision", "cv2", "pycocotools", "pyarrow", "segment_anything", "lightning_fabric", "ray",
                 "detectron2"):  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('broken')")
    write_toy(tmp_path)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from sapnet_pipe.pipeline.cli import main; main()",
            "doctor",
            "--points",
            "points.json",
        ],
        cwd=tmp_path,
        env=child_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for name in ("torch", "torchvision", "cv2"):
        assert f"{name}: package is installed but does not work" in done.stdout
    assert "files could not be checked" in done.stdout


def _packages(**versions: str) -> list[Package]:
    return [Package(name, version, True, None) for name, version in versions.items()]


@pytest.mark.parametrize(
    ("packages", "kinds"),
    [
        pytest.param(_packages(torch="2.14.1", torchvision="0.29.1"), set(), id="fitting"),
        pytest.param(_packages(torch="2.6.0+cu124", torchvision="0.21.0+cu124"), set(), id="fitting-cuda"),
        pytest.param(
            _packages(torch="2.14.1", torchvision="0.28.0"), {"torchvision-of-another-torch"}, id="another-torch"
        ),
        pytest.param(
            _packages(torch="2.13.0", torchvision="0.29.1"),
            {"torch-known-bad", "torchvision-of-another-torch"},
            id="known-bad",
        ),
        pytest.param([Package("cv2", "", False, None)], {"package-missing"}, id="missing"),
        pytest.param([Package("cv2", "5", True, "ImportError: libGL")], {"package-broken"}, id="broken"),
        pytest.param([Package("ray", "2", True, "x")], {"optional-package-broken"}, id="optional"),
        pytest.param([Package("ray", "", False, None)], set(), id="optional-missing"),
    ],
)
def test_packages_that_do_not_go_together_are_told(packages: list[Package], kinds: set[str]) -> None:
    findings = Findings()
    check_packages(packages, findings)
    assert {found.kind.name for found in (*findings.errors(), *findings.warnings())} == kinds


def test_the_packages_of_this_environment_fit_and_are_all_listed(probes: dict[str, Probe]) -> None:
    packages, findings = table_of(probes), Findings()
    check_packages(packages, findings)
    assert not findings.errors()
    assert [package.module for package in packages] == [*REQUIRED, *OPTIONAL]
    assert all(package.version for package in packages if package.module in REQUIRED)
    assert probes["torch"].details["gflops"] > 0.1


def test_torchvision_goes_with_the_torch_of_its_release() -> None:
    assert fitting_torchvision("2.14.1") == "0.29"
    assert fitting_torchvision("2.6.0+cpu") == "0.21"
    assert fitting_torchvision("") is None


def test_weights_are_told_by_their_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAPNET_CACHE", str(tmp_path))
    monkeypatch.setitem(OFFICIAL, "vit_b", OfficialCheckpoint("b.pth", sha256_file(TINY_WEIGHTS)))
    monkeypatch.setattr("sapnet_pipe.pipeline.doctor.sam_weights.is_within_reach", lambda url: url.endswith("/b.pth"))
    findings = Findings()
    assert "downloaded on first use" in check_sam_weights("vit_b", None, findings).state
    (tmp_path / "b.pth").write_bytes(TINY_WEIGHTS.read_bytes())
    assert "sha256 checked" in check_sam_weights("vit_b", None, findings).state
    assert not findings.errors()
    assert not findings.warnings()
    (tmp_path / "b.pth").write_bytes(b"half")
    check_sam_weights("vit_b", None, findings)
    assert [found.kind.name for found in findings.warnings()] == ["checkpoint-damaged"]
    check_sam_weights("vit_h", TINY_WEIGHTS, findings)  # whose checksum is said to be vit_b's here
    assert [found.kind.name for found in findings.errors()] == ["checkpoint-of-another-sam"]


def test_weights_that_cannot_be_had_are_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAPNET_CACHE", str(tmp_path))
    for module in ("sam_weights", "backbone_weights"):
        monkeypatch.setattr(f"sapnet_pipe.pipeline.doctor.{module}.is_within_reach", lambda url: False)
    findings = Findings()
    assert "cannot be downloaded" in check_sam_weights("vit_b", None, findings).state
    assert "cannot be downloaded" in check_backbone_weights(tmp_path, findings).state
    assert [found.kind.name for found in findings.warnings()] == [
        "checkpoint-out-of-reach",
        "backbone-weights-out-of-reach",
    ]
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet50-0676ba61.pth").write_bytes(b"half")
    check_backbone_weights(tmp_path, findings)
    assert [found.kind.name for found in findings.errors()] == ["backbone-weights-damaged"]


def test_weights_that_find_no_room_must_be_fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAPNET_CACHE", str(tmp_path))
    monkeypatch.setattr("sapnet_pipe.pipeline.doctor.sam_weights.free_disk", lambda _: 10**9)
    findings = Findings()
    check_sam_weights("vit_h", None, findings)
    assert [found.kind.name for found in findings.errors()] == ["no-room-for-checkpoint"]


def test_the_trainings_of_twelve_photographs_end_within_the_hour_with_the_presets_for_them() -> None:
    found = {(one.command, one.preset): one for one in estimate_trainings(12, 105.0)}
    assert found["select", "small"].steps == 300
    assert found["train-seg", "light"].steps == 144
    assert found["select", "small"].seconds + found["train-seg", "light"].seconds < 3600
    assert found["select", "coco-1x"].seconds == 500 * 85.0
    assert estimate_trainings(12, 210.0)[0].seconds == 500 * 85.0 / 2


def test_the_estimate_follows_images_points_and_speed() -> None:
    work = [((480, 640), 3)] * 10
    once = estimate_bags(work, sam="vit_b", recipe="refined", device="cpu", gflops=100)
    # 2.3 * (10 * 972 + 30 * 4 * 3.6) / 100 + 30 * 0.05
    assert once.seconds == pytest.approx(2.3 * 101.52 + 1.5)
    assert once.bytes == pytest.approx(30 * 6 * (224 * (307200 / 266000) ** 0.5 + 40))
    fast = estimate_bags(work, sam="vit_b", recipe="refined", device="cuda", gflops=10_000)
    assert fast.seconds == pytest.approx(2.3 * 1.0152 + 1.5)
    three = estimate_bags(work, sam="vit_b", recipe="multimask", device="cpu", gflops=100)
    assert three.bytes == pytest.approx(once.bytes / 2)
    assert [spoken_time(seconds) for seconds in (0.2, 40, 720, 19_000, 10**6)] == [
        "a second", "40 seconds", "12 minutes", "5.28 hours", "11.6 days"
    ]  # fmt: skip
