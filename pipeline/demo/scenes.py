"""What the demo works on: rendered scenes, a point per object, and the bags that the tiny SAM makes of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sapnet_pipe.data.scenes.dataset import DEMO_TEST, DEMO_TRAIN, write_scene_dataset
from sapnet_pipe.pipeline.commands.generate_bags import GenerateBagsInputs, generate_bags
from sapnet_pipe.pipeline.commands.points import PointsInputs, PointsSettings, make_points
from sapnet_pipe.pipeline.demo.settings import SceneSettings
from sapnet_pipe.stages.bags.config import BagsConfig


@dataclass(frozen=True)
class DemoData:
    """The files of the folder `out`, and the steps that make them; equal settings give equal bytes."""

    out: Path
    settings: SceneSettings
    quiet: bool

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
        settings = self.settings
        truth = write_scene_dataset(self.out / "train", DEMO_TRAIN[: settings.train_scenes], quiet=self.quiet)
        write_scene_dataset(self.out / "test", DEMO_TEST[: settings.test_scenes], quiet=self.quiet)
        points = PointsInputs(annotations=truth, out=self.points, quiet=True)
        make_points(points, PointsSettings(strategy="quasi-center", seed=settings.seed))

    def generate_bags(self) -> None:
        """The bag store; a store that is there goes on where it stood."""
        inputs = GenerateBagsInputs(images=self.train_images, points=self.points, out=str(self.bags), quiet=self.quiet)
        generate_bags(inputs, BagsConfig(sam="tiny", **self.common))
