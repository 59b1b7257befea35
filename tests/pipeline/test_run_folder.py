"""Run folders: never overwritten, resumed only as the same run."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import read_json, write_json
from sapnet_pipe.data.folder_lock import held_folder
from sapnet_pipe.pipeline.run_folder import MAY_CHANGE, RunFolder, open_run
from sapnet_pipe.pipeline.settings import resolve_settings
from sapnet_pipe.pipeline.settings_table import settings_table
from sapnet_pipe.stages.segment.config import SegmentConfig
from sapnet_pipe.stages.select.config import SelectConfig
from sapnet_pipe.stages.select.presets import PRESETS
from sapnet_pipe.stages.training.config import TrainConfig


class Settings(BaseModel, frozen=True):
    lr: float = 0.1
    device: str = "auto"


def _run(
    path: Path,
    *,
    resume: bool = False,
    settings: BaseModel | None = None,
    bags: str = "abc",
    job: Callable[[RunFolder], None] = lambda folder: None,
) -> None:
    settings = settings or Settings()
    with open_run(path, command="select", settings=settings, inputs={"bags": bags}, seed=0, resume=resume) as folder:
        job(folder)


def _finish(folder: RunFolder) -> None:
    folder.finish({"miou": 0.5})


def _fail(folder: RunFolder) -> None:
    (folder.path / "backbone.json").write_text("{}")
    (folder.path / "checkpoints").mkdir(exist_ok=True)
    raise UserError("image.jpg", "content", "", "a damaged image", "Get it again")


def _learn_and_fail(folder: RunFolder) -> None:
    (folder.path / "metrics.jsonl").write_text('{"iteration": 1}\n')
    _fail(folder)


def _files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_new_folder_gets_settings_and_manifest(tmp_path: Path) -> None:
    _run(tmp_path / "run", job=_finish)
    manifest = read_json(tmp_path / "run" / "manifest.json")
    assert manifest["status"] == "complete"
    assert manifest["result"] == {"miou": 0.5}
    assert manifest["inputs"] == {"bags": "abc"}
    assert "lr = 0.1" in (tmp_path / "run" / "config.toml").read_text()


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    _run(tmp_path / "run")
    with pytest.raises(UserError, match="--resume"):
        _run(tmp_path / "run")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="something else"):
        _run(tmp_path, resume=True)


def test_resume_goes_on_with_the_same_run_on_another_device(tmp_path: Path) -> None:
    _run(tmp_path / "run")
    _run(tmp_path / "run", resume=True, settings=Settings(device="cpu"))


def test_resume_names_the_changed_setting(tmp_path: Path) -> None:
    _run(tmp_path / "run")
    with pytest.raises(UserError, match=r"lr = 0\.1, but now it is 0\.2"):
        _run(tmp_path / "run", resume=True, settings=Settings(lr=0.2))


def test_resume_says_how_to_go_on_as_the_run_began(tmp_path: Path) -> None:
    _run(tmp_path / "run", settings=SelectConfig())
    now = SelectConfig.model_validate({"prm": {"beta": False}, "seed": 3})
    with pytest.raises(UserError, match=r"seed = 0, .* to go on as it began add --seed 0 --set prm\.beta=true\.$"):
        _run(tmp_path / "run", resume=True, settings=now)


def test_a_run_of_another_method_is_named_by_its_method_and_by_options_that_work(tmp_path: Path) -> None:
    _run(tmp_path / "run", settings=SelectConfig())
    with pytest.raises(UserError, match=r"method = sapnet, but now it is 'sapnet-plus'") as caught:
        _run(tmp_path / "run", resume=True, settings=SelectConfig.model_validate({"method": "sapnet-plus"}))
    words = str(caught.value).partition("add --method sapnet ")[2].rstrip(".").split()
    again = resolve_settings(SelectConfig, assignments=words[1::2], flags={"method": "sapnet"})
    _run(tmp_path / "run", resume=True, settings=again)


def test_resume_under_another_preset_points_at_the_settings_of_the_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    _run(run, settings=resolve_settings(SelectConfig, preset=PRESETS["demo"]))
    with pytest.raises(UserError) as caught:
        _run(run, resume=True, settings=resolve_settings(SelectConfig, preset=PRESETS["voc"]))
    assert str(caught.value).endswith(f"to go on as it began add --config {run / 'config.toml'}.")
    again = resolve_settings(SelectConfig, preset=PRESETS["voc"], file=run / "config.toml")
    _run(run, resume=True, settings=again)


@pytest.mark.parametrize(("plus", "method"), [(True, "sapnet-plus"), (False, "sapnet")])
def test_a_run_from_before_sapnet_was_the_papers_alone_goes_on_under_todays_names(
    tmp_path: Path, plus: bool, method: str
) -> None:
    modules = {name: {"enabled": plus} for name in ("completeness", "assignment")}
    before = {"method": method, "prm": {"beta": False, "prior": 0.05}, "negatives": {"parts": 1}, **modules}
    wanted = SelectConfig.model_validate({**before, "pdg": {"exponent": 0.015}})
    _run(tmp_path / "run", settings=wanted)
    file = tmp_path / "run" / "config.toml"
    old = file.read_text().replace("beta = false\n", "").replace('after = "both"\n', "")
    file.write_text(old.replace('method = "sapnet-plus"', 'method = "sapnet"'))
    with pytest.raises(UserError, match=r"--set prm\.beta=false"):
        _run(tmp_path / "run", resume=True, settings=SelectConfig())
    _run(tmp_path / "run", resume=True, settings=wanted)


def test_resume_names_the_changed_input(tmp_path: Path) -> None:
    _run(tmp_path / "run")
    with pytest.raises(UserError, match=r"inputs\.bags"):
        _run(tmp_path / "run", resume=True, bags="xyz")


def test_an_input_that_the_run_began_without_is_to_be_left_out(tmp_path: Path) -> None:
    inputs = {"bags": "abc"}
    with open_run(tmp_path, command="select", settings=Settings(), inputs=inputs, seed=0, resume=False):
        pass
    later = {**inputs, "truth": "xyz"}
    with (
        pytest.raises(UserError, match=r"Leave truth out, as the run began, or choose a new folder"),
        open_run(tmp_path, command="select", settings=Settings(), inputs=later, seed=0, resume=True),
    ):
        pass


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(UserError, match="a file, not a folder"):
        _run(tmp_path / "run")


def test_a_run_that_fails_before_it_learns_leaves_no_trace(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="damaged"):
        _run(tmp_path / "runs" / "first", job=_fail)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="damaged"):
        _run(tmp_path / "mine", job=_fail)
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"], "the user's own folder stays"


def test_a_run_that_fails_after_it_learnt_can_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="damaged"):
        _run(tmp_path / "run", job=_learn_and_fail)
    _run(tmp_path / "run", resume=True, job=_finish)
    assert read_json(tmp_path / "run" / "manifest.json")["status"] == "complete"


def test_a_resumed_run_that_fails_keeps_the_result_that_it_had(tmp_path: Path) -> None:
    _run(tmp_path / "run", job=_finish)
    before = _files(tmp_path)
    with pytest.raises(UserError, match="damaged"):
        _run(tmp_path / "run", resume=True, settings=Settings(device="cpu"), job=_fail)
    assert _files(tmp_path) == before | {"run/backbone.json": b"{}"}


@pytest.mark.parametrize("inputs", [[], None, "abc", {}])
def test_a_damaged_manifest_is_a_user_error(tmp_path: Path, inputs: object) -> None:
    _run(tmp_path / "run")
    manifest = read_json(tmp_path / "run" / "manifest.json")
    write_json(tmp_path / "run" / "manifest.json", manifest | {"inputs": inputs})
    with pytest.raises(UserError, match=r"inputs\.bags"):
        _run(tmp_path / "run", resume=True)


def test_a_folder_of_nothing_but_litter_of_a_killed_run_is_free_and_tidied(tmp_path: Path) -> None:
    for name in (".lock", ".config.toml.abcd_123.tmp"):
        (tmp_path / name).write_bytes(b"half")
    _run(tmp_path, job=_finish)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/.last.pt.abcd_123.tmp").write_bytes(b"half")
    (tmp_path / ".mine.tmp").write_bytes(b"a stranger's")
    _run(tmp_path, resume=True, job=_finish)
    assert set(_files(tmp_path)) == {"config.toml", "manifest.json", ".mine.tmp"}


def test_a_run_killed_before_it_wrote_its_settings_can_be_resumed(tmp_path: Path) -> None:
    _run(tmp_path)
    (tmp_path / "config.toml").unlink()
    _run(tmp_path, resume=True, job=_finish)


def test_two_commands_do_not_work_in_one_folder(tmp_path: Path) -> None:
    with (
        held_folder(tmp_path / "run"),
        pytest.raises(UserError, match=rf"run: lock = \.lock, another process \({os.getpid()}\) is writing there"),
    ):
        _run(tmp_path / "run")
    _run(tmp_path / "run")


def test_a_setting_that_is_newer_than_the_run_is_taken_as_its_default(tmp_path: Path) -> None:
    _run(tmp_path / "run")
    config = tmp_path / "run" / "config.toml"
    config.write_text("".join(line for line in config.read_text().splitlines(True) if not line.startswith("lr")))
    _run(tmp_path / "run", resume=True)
    assert "lr = 0.1" in config.read_text()


class LongRun(BaseModel):
    train: TrainConfig = TrainConfig()


def test_a_resumed_run_may_be_lengthened_and_says_what_that_means(tmp_path: Path) -> None:
    _run(tmp_path, settings=LongRun())
    longer = LongRun(train=TrainConfig(epochs=24, checkpoint_minutes=1, workers=2))
    with open_run(tmp_path, command="select", settings=longer, inputs={"bags": "abc"}, seed=0, resume=True) as folder:
        assert len(folder.notes) == 1
        assert folder.notes[0].startswith("train.epochs was 12.0 and is 24.0 from here on: the learning rate")
    assert "epochs = 24.0" in (tmp_path / "config.toml").read_text()
    with pytest.raises(UserError, match=r"train\.lr = "):
        _run(tmp_path, settings=LongRun(train=TrainConfig(epochs=24, lr=0.5)), resume=True)


def test_everything_that_may_change_is_a_setting() -> None:
    known = {row.key for model in (SelectConfig, SegmentConfig) for row in settings_table(model)}
    assert set(MAY_CHANGE) <= known
