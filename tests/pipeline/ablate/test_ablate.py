"""Ablations as people and programs use them: tables, sharing, going on, mistakes."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

from sapnet_pipe.data.bag_store.derived import write_point_masks
from sapnet_pipe.data.bag_store.store import BagStore
from sapnet_pipe.data.files import read_json
from sapnet_pipe.pipeline.ablate.plan import Plan, bundled_presets, make_plan
from sapnet_pipe.pipeline.ablate.plot import draw_plot
from sapnet_pipe.pipeline.ablate.run import do_task
from sapnet_pipe.pipeline.ablate.settings import AblateSettings
from sapnet_pipe.pipeline.cli import run
from sapnet_pipe.pipeline.settings import resolve_settings
from sapnet_pipe.stages.select.config import SelectConfig
from tests.pipeline.ablate.ablate_toy import COMMAND, PLAN, TABLES
from tests.pipeline.one_line import check_message


@pytest.fixture(scope="module")
def ablated(finished_job: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job with a finished ablation in `abl`."""
    folder = tmp_path_factory.mktemp("ablated") / "job"
    shutil.copytree(finished_job, folder)
    (folder / "plan.toml").write_text(PLAN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(shlex.split(COMMAND)) == 0
    return folder


@pytest.fixture
def work(ablated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "job"
    shutil.copytree(ablated, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the folders in which something was trained."""
    folders: list[str] = []

    def record(task):
        folders.append(task.folder.name)
        return do_task(task)

    monkeypatch.setattr("sapnet_pipe.pipeline.ablate.run.do_task", record)
    return folders


def test_the_table_has_every_variant_in_its_order_with_mean_and_spread(work: Path) -> None:
    figures = read_json(work / "abl/plan.json")
    assert list(figures["variants"]) == ["single MIL", "SAPNet", "SAPNet with MPS"]
    row = figures["variants"]["SAPNet"]
    first, second = row["miou"]
    assert row["seeds"] == [0, 1]
    assert row["miou_mean"] == pytest.approx((first + second) / 2, abs=1e-6)
    assert row["miou_sd"] == pytest.approx(abs(first - second) / 2**0.5, abs=1e-5)
    assert row["miou_sem"] == pytest.approx(abs(first - second) / 2, abs=1e-5)
    assert figures["baselines"].keys() >= {"sam_top1", "largest", "oracle"}
    assert all((work / "abl" / name).is_file() for name in TABLES)
    assert (work / "abl/plan.md").read_text().count("\n| ") == 8


def test_a_step_is_the_mean_difference_between_runs_of_one_seed(work: Path) -> None:
    rows = read_json(work / "abl/plan.json")["variants"]
    differences = [b - a for a, b in zip(rows["single MIL"]["miou"], rows["SAPNet"]["miou"], strict=True)]
    assert rows["SAPNet"]["step_mean"] == pytest.approx(sum(differences) / 2, abs=1e-5)
    assert rows["SAPNet"]["compared_with"] == "single MIL"
    assert rows["SAPNet with MPS"]["step_mean"] == 0


def test_rows_have_errors_over_photographs_and_steps_a_paired_test(work: Path) -> None:
    rows = read_json(work / "abl/plan.json")["variants"]
    found, step = rows["SAPNet"]["evidence"], rows["SAPNet"]["step_evidence"]
    assert found["miou"]["mean"] == pytest.approx(rows["SAPNet"]["miou_mean"], abs=1e-5)
    assert found["miou"]["error"] > 0
    assert step["mean"] == pytest.approx(rows["SAPNet"]["step_mean"], abs=1e-5)
    assert 0 < step["p"] <= 1
    assert rows["SAPNet with MPS"]["step_evidence"]["p"] == 1
    assert "± is the standard error over photographs" in (work / "abl/plan.md").read_text()


def test_runs_of_an_earlier_version_have_no_objects_and_no_error_over_photographs(work: Path) -> None:
    for file in (work / "abl/runs").glob("*/objects.parquet"):
        file.unlink()
    assert run(shlex.split("report --run abl --quiet")) == 0
    row = read_json(work / "abl/plan.json")["variants"]["SAPNet"]
    assert "evidence" not in row
    assert row["miou_sem"] >= 0
    assert "over photographs" not in (work / "abl/plan.md").read_text()


def test_variants_with_one_selector_train_it_once(work: Path) -> None:
    rows = read_json(work / "abl/plan.json")["variants"]
    assert rows["SAPNet"]["select_runs"] == rows["SAPNet with MPS"]["select_runs"]
    assert len(list((work / "abl/runs").iterdir())) == 4


def test_every_run_folder_is_an_ordinary_one(work: Path) -> None:
    for folder in (work / "abl/runs").iterdir():
        assert {"manifest.json", "config.toml", "metrics.jsonl", "pseudo_labels.json"} <= {
            path.name for path in folder.iterdir()
        }


def test_a_second_ablation_reuses_what_the_first_one_trained(work: Path, trained: list[str]) -> None:
    more = PLAN.replace("seeds = 2", "seeds = [1, 4]") + '\n[[variants]]\nname = "k 1"\nselect.bms.top_k = 1\n'
    (work / "more.toml").write_text(more)
    assert run(shlex.split(COMMAND.replace("plan.toml", "more.toml"))) == 0
    assert sorted(name.rpartition("-")[0] for name in trained) == [
        "select-k-1-seed1",
        "select-k-1-seed4",
        "select-sapnet-seed4",
        "select-single-mil-seed4",
    ]
    assert (work / "abl/plan.md").is_file()


def test_report_makes_the_same_tables_again_without_training(work: Path, trained: list[str]) -> None:
    before = {name: (work / "abl" / name).read_bytes() for name in TABLES}
    for name in TABLES:
        (work / "abl" / name).unlink()
    assert run(shlex.split("report --run abl --quiet")) == 0
    assert {name: (work / "abl" / name).read_bytes() for name in TABLES} == before
    assert not trained


def test_the_last_line_of_json_holds_the_variants(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert run(shlex.split(f"{COMMAND} --json")) == 0
    said = capfd.readouterr()
    assert said.err == ""
    (line,) = said.out.splitlines()
    result = json.loads(line)
    assert list(result["variants"]) == ["single MIL", "SAPNet", "SAPNet with MPS"]
    assert {"miou_mean", "miou_sem", "miou_sd", "seeds"} <= result["variants"]["SAPNet"].keys()
    assert result["baselines"]["oracle"] >= result["baselines"]["sam_top1"]


def test_people_see_a_line_per_training_with_what_is_left(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert run(shlex.split(COMMAND.removesuffix(" --quiet") + " --seeds 3")) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "plan: 3 variants, 9 runs, 6 trainings, 4 finished before; 1 at once"
    assert [line.split(": mIoU ")[0] for line in lines[1:3]] == [
        "[5/6] single MIL, seed 2",
        "[6/6] SAPNet, seed 2",
    ]
    assert "1 left, about" in lines[1]


@pytest.mark.slow
def test_several_at_once_give_the_same_table(work: Path) -> None:
    assert run(shlex.split(COMMAND.replace("--out abl", "--out two --set parallel=2"))) == 0
    assert (work / "two/plan.md").read_bytes() == (work / "abl/plan.md").read_bytes()


def test_a_run_that_fails_does_not_stop_the_others(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wild = """[[variants]]\nname = "wild"\nselect.backbone.weights = "missing.pth"\n"""
    (work / "plan.toml").write_text(PLAN.replace("[[variants]]", f"{wild}\n[[variants]]", 1))
    assert run(shlex.split(f"{COMMAND} --set seeds=[9]")) == 2
    check_message(capfd.readouterr().err, "missing.pth * run wild, seed 9 failed * same command again")
    rows = read_json(work / "abl/plan.json")["variants"]
    assert rows["SAPNet"]["seeds"] == [9]
    assert rows["wild"]["seeds"] == []


def test_point_masks_are_a_store_of_their_own_with_the_same_points(work: Path) -> None:
    whole = BagStore.open(work / "bags")
    fewer = write_point_masks(whole, work / "fewer")
    before, after = whole.read_table(), fewer.read_table()
    assert after.point_id.tolist() == before.point_id.tolist()
    assert fewer.fingerprint != whole.fingerprint
    assert (after.masks.source < 4).all()
    assert len(after.masks) == int((before.masks.source < 4).sum())
    assert write_point_masks(whole, work / "fewer").manifest == fewer.manifest


def planned(name: str, **settings: object) -> Plan:
    """A bundled ablation of the demo's scenes."""
    return make_plan(
        resolve_settings(AblateSettings, preset=bundled_presets()[name], flags=settings), preset=name, demo=True
    )


@pytest.mark.parametrize("name", ["chain", "negatives", "recipe", "bms-k", "pdg-exponent", "beyond", "deviations"])
def test_bundled_ablations_resolve(name: str) -> None:
    plan = planned(name, seeds=2, segment_preset="demo")
    assert len(plan.runs) == 2 * len(plan.settings.variants)
    assert list(bundled_presets()) == [
        "beyond",
        "bms-k",
        "chain",
        "deviations",
        "evidence",
        "mps",
        "negatives",
        "pdg-exponent",
        "recipe",
    ]


def test_the_chain_is_the_papers() -> None:
    plan = planned("chain", seeds=1)
    assert [run.variant for run in plan.runs] == ["single MIL", "+ PDG", "+ PNPG/PRM", "+ BMS", "+ MPS"]


@pytest.mark.parametrize("name", ["chain", "negatives", "bms-k", "pdg-exponent"])
def test_ablations_of_the_papers_parts_take_the_papers_selector(name: str) -> None:
    plan = planned(name, seeds=1)
    configs = [SelectConfig.model_validate(run.select_config) for run in plan.runs]
    assert not any(config.completeness.enabled or config.assignment.enabled for config in configs)
    assert all(config.method in ("sapnet", "single-mil") for config in configs)


def test_the_plot_grows_with_its_rows_and_takes_an_empty_table() -> None:
    rows = {name: {"miou": [0.5, 0.6], "miou_mean": 0.55, "miou_sem": 0.05, "miou_sd": 0.07} for name in "abc"}
    figures = {"title": "t", "variants": rows, "baselines": {"sam_top1": 0.4, "oracle": 0.9}}
    picture = draw_plot(figures)
    nothing = draw_plot({"title": "t", "variants": {"a": {"seeds": []}}, "baselines": {}})
    assert picture.shape[1] == nothing.shape[1] == 900
    assert picture.shape[0] - nothing.shape[0] == 2 * 34


MISTAKES = {
    "nothing to run": (COMMAND.replace("--config plan.toml", ""), None, "--config or --preset * neither * chain"),
    "unknown preset": (COMMAND.replace("--config plan.toml", "--preset chains"), None, "--preset * chains * chain"),
    "unknown variant": (f"{COMMAND} --only SAPnet", None, "--only * SAPnet * single MIL, SAPNet"),
    "no variants": (COMMAND, "seeds = 1", "plan.toml: variants = 0 * [[variants]]"),
    "no seeds": (f"{COMMAND} --set seeds=[]", None, "--set: seeds = [] * list of different seeds"),
    "no seed at all": (f"{COMMAND} --seeds 0", None, "--seeds: seeds = 0 * number from 1"),
    "two of one name": (COMMAND, PLAN + '[[variants]]\nname = "SAPNet"\n', "plan.toml * two variants * SAPNet"),
    "unknown setting": (
        COMMAND, PLAN + '[[variants]]\nname = "x"\nselect.bms.k = 1\n',
        "plan.toml, variant 'x': bms.k = 1 * no such setting * top_k",
    ),
    "seed of a variant": (
        COMMAND, PLAN + '[[variants]]\nname = "x"\nselect.seed = 1\n', "variant 'x': seed = 1 * Set seeds",
    ),
    "unknown key": (COMMAND, "repeat = 1\n" + PLAN, "plan.toml: repeat = 1 * no such setting * seeds"),
    "unknown segment preset": (f"{COMMAND} --segment-preset x", None, "--segment-preset * x * solov2-r50-1x"),
    "unknown select preset": (f"{COMMAND} --select-preset coco", None, "--select-preset * coco * coco-1x"),
    "no bags": (COMMAND.replace("--bags bags", ""), None, "--bags * Give --bags, or --demo"),
    "demo and bags": (f"{COMMAND} --demo", None, "--demo * Leave out --bags"),
    "foreign folder": (COMMAND.replace("--out abl", "--out images"), None, "--out * images * something else"),
    "no ablation": ("report --run images", None, "--run * images * no ablation * --out of an ablate"),
    "sets without the demo": (f"{COMMAND} --sets 2", None, "sets = 2 * Add --demo"),
    "segmenters without truth": (f"{COMMAND} --segment-preset demo", None, "--val-labels * Give --val-labels"),
    "missing store": (COMMAND.replace("--bags bags", "--bags none"), None, "none"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "plan", "pattern"), MISTAKES.values(), ids=[name.replace(" ", "-") for name in MISTAKES]
)
def test_mistakes_are_told_in_one_line_and_nothing_is_trained(
    work: Path, capfd: pytest.CaptureFixture[str], trained: list[str], command: str, plan: str | None, pattern: str
) -> None:
    if plan is not None:
        (work / "plan.toml").write_text(plan)
    capfd.readouterr()
    assert run(shlex.split(command)) == 2
    check_message(capfd.readouterr().err, pattern)
    assert not trained


@pytest.mark.slow
def test_the_demo_makes_its_own_scenes_and_bags_and_goes_on_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = "--set train_scenes=4 --set test_scenes=2 --set select.train.max_iterations=2 --quiet"
    line = f"ablate --preset chain --demo --seeds 1 --out abl {small} --json"
    assert run(shlex.split(line)) == 0
    result = json.loads(capfd.readouterr().out)
    assert list(result["variants"]) == ["single MIL", "+ PDG", "+ PNPG/PRM", "+ BMS", "+ MPS"]
    assert len(list((tmp_path / "abl/runs").iterdir())) == 4
    again = line.replace("--preset chain", "--preset evidence --sets 2").replace("--out abl", "--out new")
    assert run(shlex.split(again)) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["sets"] == ["crowded", "sparse"]
    assert len(list((tmp_path / "new/runs").iterdir())) == 10
    assert set(result["variants"]["sapnet-plus"]["evidence"]["miou"]["sets"]) == {"crowded", "sparse"}
    assert "### By set" in (tmp_path / "new/evidence.md").read_text()
    more = line.replace("--preset chain", "--preset recipe --segment-preset demo --set segment.train.max_iterations=2")
    assert run(shlex.split(more)) == 0
    result = json.loads(capfd.readouterr().out)
    assert {"ap_mean", "box_ap_mean", "miou_mean"} <= result["variants"]["multimask"].keys()
    assert run(shlex.split(line.replace("train_scenes=4", "train_scenes=5"))) == 2
    check_message(capfd.readouterr().err, "abl/demo/scenes.json: train_scenes = 4 * 5 * new --out")
