"""How many images may be unreadable before a run stops, and what is kept of those that are."""

from collections.abc import Iterable, Mapping

from sapnet_pipe.data.bag_store.schema import FailedImage
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.points.point_set import PointSet

_RETRY = "fix them and give --retry-failed"


class FailureBudget:
    """Counts unreadable images against what --max-failure-rate allows.

    Args:
        rate: Share of the images that may fail, in [0, 1].
        images: Of the whole run.
        recorded: Images that failed in the runs before and are recorded in the store.
        retried: Whether those are tried again; then they may all fail again.
    Raises: UserError if the runs before failed more often than is allowed now.
    """

    def __init__(
        self, rate: float, images: int, recorded: Iterable[FailedImage] = (), *, retried: bool = False
    ) -> None:
        before = list(recorded)
        self._rate, self._images = rate, images
        self._limit = max(int(rate * images + 1e-9), len(before) if retried else 0)
        self._failed = 0 if retried else len(before)
        if self._failed > self._limit:
            first = before[0]
            problem = f"could not be read before, first {first.file_name} ({first.reason})"
            hint = f"To try them again, {_RETRY}; to go on without them, raise --max-failure-rate"
            raise UserError("images", "failed", f"{self._failed} of {images}", problem, hint)

    @property
    def tolerates(self) -> bool:
        """Whether any image may fail; otherwise the first that does is raised as it is."""
        return self._limit > 0

    def add(self, failures: Mapping[int, UserError]) -> None:
        """Count images that failed. Raises: UserError if they are too many now."""
        if not failures:
            return
        first = next(iter(failures.values()))
        if not self.tolerates:
            raise first
        self._failed += len(failures)
        if self._failed > self._limit:
            count = f"{self._failed} of {self._images} images"
            problem = (
                f"are unreadable, more than --max-failure-rate {self._rate:g}; e.g. {first.value}, {first.problem}"
            )
            raise UserError(first.file, "images", count, problem, f"{first.hint}, or raise --max-failure-rate")


def failed_images(failures: Mapping[int, UserError], points: PointSet) -> tuple[FailedImage, ...]:
    """What a shard keeps of the images that could not be read, by ascending id."""
    return tuple(
        FailedImage(
            image_id=image_id,
            file_name=points.images[image_id].file_name,
            points=int((points.image_id == image_id).sum()),
            reason=" ".join(error.problem.split()),
        )
        for image_id, error in sorted(failures.items())
    )
