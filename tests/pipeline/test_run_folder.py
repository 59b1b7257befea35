"""Run folders: never overwritten, resumed only as the same run."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import read_json, write_json
from sapnet_pipe.pipeline.run_folder import RunFolder, open_run


class Settings(BaseModel, frozen=True):
    lr: float = 0.1
    device: str = "auto"


def _run(
    path: Path,
    *,
    resume: bool = False,
    settings: Settings | None = None,
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


def test_resume_names_the_changed_input(tmp_path: Path) -> None:
    _run(tmp_path / "run")
    with pytest.raises(UserError, match=r"inputs\.bags"):
        _run(tmp_path / "run", resume=True, bags="xyz")


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
