"""Photographs that cannot be read: found before hours are spent, and counted against what --max-failure-rate allows."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sapnet_pipe.data.bag_store.schema import FailedImage
from sapnet_pipe.data.coco.instances import ImageRecord
from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.images import read_image
from sapnet_pipe.data.photo_names import find_photograph
from sapnet_pipe.data.progress import progress_bar
from sapnet_pipe.stages.training.cores import available_cores

_RETRY = "fix them and give --retry-failed"
_NAMED = 3  # how many a note lists


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


class Unreadable:
    """Counts photographs that turn out unreadable during the work, beside those in `lost`, which are known to be."""

    def __init__(self, lost: dict[int, UserError], budget: FailureBudget) -> None:
        self._lost, self._budget = lost, budget
        budget.add(lost)

    def __call__(self, record: ImageRecord, error: UserError) -> None:
        """Pass over one more. Raises: UserError if they are too many now."""
        self._lost[record.image_id] = error
        self._budget.add({record.image_id: error})


def photo_field(record: ImageRecord) -> str:
    """How errors name the photograph of a record."""
    return f"image {record.image_id}.file_name"


def find_unreadable(
    records: Sequence[ImageRecord], images_dir: Path, *, source: Path | str, rate: float, quiet: bool
) -> dict[int, UserError]:
    """Decode every photograph once; by image id what is wrong with those that cannot be read.

    Args:
        source: The file to blame.
        rate: Share of them that may be unreadable; at 0 the first one ends it.
    Raises: UserError if they are too many.
    """
    lost: dict[int, UserError] = {}
    unreadable = Unreadable(lost, FailureBudget(rate, len(records)))

    def fault(record: ImageRecord) -> UserError | None:
        field = photo_field(record)
        try:
            path = find_photograph(images_dir, record.file_name, file=source, field=field)
            read_image(path, record.height, record.width, file=source, field=field)
        except UserError as error:
            return error
        return None

    with ThreadPoolExecutor(available_cores()) as pool:
        faults = progress_bar(pool.map(fault, records), total=len(records), desc="checking photographs", quiet=quiet)
        for record, error in zip(records, faults, strict=True):
            if error is not None:
                try:
                    unreadable(record, error)
                except UserError:
                    pool.shutdown(cancel_futures=True)
                    raise
    return lost


def unreadable_note(lost: Mapping[int, UserError], images: int) -> list[str]:
    """One line on the photographs that are left out, of so many `images`, if there are any."""
    if not lost:
        return []
    named = "; ".join(f"{error.value}, {error.problem}" for error in list(lost.values())[:_NAMED])
    more = "; ..." if len(lost) > _NAMED else ""
    return [f"{len(lost)} of {images} photographs cannot be read and are left out: {named}{more}."]
