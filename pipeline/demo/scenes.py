"""What the demo works on: rendered scenes, a point per object, and the bags that the tiny SAM makes of them."""

import shutil
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sapnet_pipe.data.scenes.dataset import train_and_test_seeds, write_scene_dataset
from sapnet_pipe.data.scenes.styles import DEMO, NEW_STYLES
from sapnet_pipe.pipeline.commands.bags import MergeInputs, merge_bags
from sapnet_pipe.pipeline.commands.generate_bags import GenerateBagsInputs, generate_bags
from sapnet_pipe.pipeline.commands.points import PointsInputs, PointsSettings, make_points
from sapnet_pipe.pipeline.demo.settings import SceneSettings
from sapnet_pipe.pipeline.side_by_side import side_by_side
from sapnet_pipe.stages.bags.config import BagsConfig
from sapnet_pipe.stages.training.cores import available_cores


@dataclass(frozen=True)
class DemoData:
    """The files of the folder `out`, and the steps that make them; equal settings give equal bytes.

    `style` names the generator of the scenes: the demo's, or one of `NEW_STYLES`.
    """

    out: Path
    settings: SceneSettings
    quiet: bool
    style: str = field(default="demo", kw_only=True)

    @property
    def train_truth(self) -> Path:
        return self.out / "train" / "instances.json"

    @property
    def train_images(self) -> Path:
        return self.out / "train" / "images"

    @property
    def test_truth(self) -> Path:
        return self.out / "test" / "instances.json"

    @property
    def test_images(self) -> Path:
        return self.out / "test" / "images"

    @property
    def points(self) -> Path:
        return self.out / "points.json"

    @property
    def bags(self) -> Path:
        return self.out / "bags"

    @property
    def common(self) -> dict[str, Any]:
        """The settings that every command has."""
        return {"seed": self.settings.seed, "device": self.settings.device}

    def render(self) -> None:
        """Scenes with exact truth, and a point per object of the training scenes, which is written last."""
        settings, style = self.settings, NEW_STYLES.get(self.style, DEMO)
        train, test = train_and_test_seeds(self.style)
        truth = write_scene_dataset(self.out / "train", train[: settings.train_scenes], style=style, quiet=self.quiet)
        write_scene_dataset(self.out / "test", test[: settings.test_scenes], style=style, quiet=self.quiet)
        points = PointsInputs(annotations=truth, out=self.points, quiet=True)
        make_points(points, PointsSettings(strategy="quasi-center", seed=settings.seed))

    def generate_bags(self) -> None:
        """The bag store; a store that is there goes on where it stood.

        The tiny SAM does not fill two cores, so the halves of a large set are made at once and joined: the same bytes
        in half the time. Each half has all threads, on whose number the last bits of a mask depend.
        """
        cores = available_cores()
        if self.bags.exists() or cores < 2 or self.settings.train_scenes <= BagsConfig().shard_images:
            self._generate(self.bags, "1/1")
            return
        halves = [self.out / f"bags-part-{half}" for half in (1, 2)]
        jobs = [partial(self._generate, folder, f"{half}/2") for half, folder in enumerate(halves, 1)]
        side_by_side(jobs, device=self.settings.device, threads=cores)
        merge_bags(MergeInputs(parts=tuple(map(str, halves)), out=str(self.bags), quiet=True))
        for folder in halves:
            shutil.rmtree(folder)

    def _generate(self, out: Path, part: str) -> None:
        inputs = GenerateBagsInputs(images=self.train_images, points=self.points, out=str(out), quiet=self.quiet)
        generate_bags(inputs, BagsConfig(sam="tiny", part=part, **self.common))
