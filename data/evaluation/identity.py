"""What is the same in two files that number it differently: the one rule of every command that compares with a truth.

Photographs are the same if they have the same file name, categories if they have the same name. Spelling that differs
between machines is looked past: backslashes, the two ways in which Unicode composes letters, and, where only one
candidate is left, capitals, the suffix and leading folders. Objects are told apart within a photograph and category:
`data.evaluation.objects`.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from os import PathLike
from posixpath import splitext
from typing import TypeVar

from sapnet_pipe.data.coco.instances import Category, ImageRecord, InstanceDataset
from sapnet_pipe.data.errors import UserError

_T = TypeVar("_T")
_NAMED = 5  # how many names a note lists


@dataclass(frozen=True)
class Alignment:
    """How the ids of one file are to be read in a truth.

    Attributes:
        truth: The truth, with one entry for every photograph.
        image_ids, category_ids: Id in the file -> id in `truth`.
        strange_images, strange_categories: Ids in the file of what the truth does not have.
        by_name: Whether they were matched by name, or are the truth's own.
        notes: What the user should know of it, one line each.
    """

    truth: InstanceDataset
    image_ids: Mapping[int, int]
    category_ids: Mapping[int, int]
    strange_images: frozenset[int] = frozenset()
    strange_categories: frozenset[int] = frozenset()
    by_name: bool = True
    notes: tuple[str, ...] = ()


def align(
    images: Iterable[ImageRecord],
    categories: Sequence[Category],
    truth: InstanceDataset,
    *,
    source: str | PathLike[str],
) -> Alignment:
    """Match photographs and categories of the file `source` with those of the truth.

    Args:
        categories: Those that occur in it.
    Raises: UserError if they have no photograph, or no category, in common, or if a photograph has another size.
    """
    own = list(images)
    truth = one_entry_per_photograph(truth)
    image_ids = match_images(own, truth, source=source)
    category_ids = match_categories(categories, truth, source=source)
    strange = [image for image in own if image.image_id not in image_ids]
    strange_kinds = [category for category in categories if category.category_id not in category_ids]
    matched, used = set(image_ids.values()), {annotation.category_id for annotation in truth.annotations}
    unseen = [image.file_name for image in truth.images.values() if image.image_id not in matched]
    missed = used - set(category_ids.values()) if categories else set()
    unseen_kinds = [category.name for category in truth.categories if category.category_id in missed]
    ignored, lost = f"that {truth.source} does not have: they do not count", "that are only there: they count as missed"
    notes = [
        *_note([image.file_name for image in strange], f"photographs of {source}", ignored),
        *_note([category.name for category in strange_kinds], f"categories of {source}", ignored),
        *_note(unseen, f"photographs of {truth.source}", lost),
        *_note(unseen_kinds, f"categories of {truth.source}", lost),
        *renumbering_notes(categories, category_ids, truth.source),
    ]
    return Alignment(
        truth,
        image_ids,
        category_ids,
        strange_images=frozenset(image.image_id for image in strange),
        strange_categories=frozenset(category.category_id for category in strange_kinds),
        notes=tuple(notes),
    )


def same_ids(truth: InstanceDataset) -> Alignment:
    """For a file without names: its ids are taken for the truth's."""
    categories = {category.category_id: category.category_id for category in truth.categories}
    return Alignment(truth, {image_id: image_id for image_id in truth.images}, categories, by_name=False)


def in_categories_of(
    categories: Sequence[Category], truth: InstanceDataset, *, source: str | PathLike[str]
) -> tuple[InstanceDataset, list[str]]:
    """The truth in the category ids of the file `source`, and notes; names that are only there get ids of their own.

    Raises: UserError as `match_categories`.
    """
    ids = match_categories(categories, truth, source=source)
    missing = [category.name for category in categories if category.category_id not in ids]
    notes = [
        *_note(missing, f"categories of {source}", f"that {truth.source} does not have: they are not measured"),
        *renumbering_notes(categories, ids, truth.source),
    ]
    new_id = {their_id: own_id for own_id, their_id in ids.items()}
    free = 1 + max(category.category_id for category in (*categories, *truth.categories))
    new_id |= {
        category.category_id: number
        for number, category in enumerate(
            (category for category in truth.categories if category.category_id not in new_id), free
        )
    }
    only_there = [Category(new_id[c.category_id], c.name) for c in truth.categories if new_id[c.category_id] >= free]
    annotations = (replace(a, category_id=new_id[a.category_id]) for a in truth.annotations)
    return replace(truth, categories=(*categories, *only_there), annotations=tuple(annotations)), notes


def one_entry_per_photograph(truth: InstanceDataset) -> InstanceDataset:
    """The truth with the objects of entries of one photograph (same name and size) joined in the first of them.

    Joined sets list a photograph twice; an object that stands in two of its entries is kept once.
    """
    first: dict[tuple[str, int, int], int] = {}
    kept_as = {
        image.image_id: first.setdefault((plain_path(image.file_name), image.height, image.width), image.image_id)
        for image in truth.images.values()
    }
    if len(first) == len(truth.images):
        return truth
    entry_of: dict[Hashable, int] = {}
    annotations = []
    for annotation in truth.annotations:
        image_id = kept_as[annotation.image_id]
        shape = str(annotation.segmentation or annotation.bbox_xywh)
        key = image_id, annotation.category_id, annotation.iscrowd, shape
        if entry_of.setdefault(key, annotation.image_id) == annotation.image_id:
            annotations.append(replace(annotation, image_id=image_id))
    images = {image_id: truth.images[image_id] for image_id in first.values()}
    return replace(truth, images=images, annotations=tuple(annotations))


def match_images(
    images: Iterable[ImageRecord], truth: InstanceDataset, *, source: str | PathLike[str]
) -> dict[int, int]:
    """Image id -> image id in the truth, of the photographs that both have.

    Raises: UserError if there is none, or if one has another size there.
    """
    own, theirs = _by_path(images), _by_path(truth.images.values())
    found: dict[int, int] = {}
    counterpart = _same_paths(own, theirs)
    for name in (name for name in own if name in counterpart):  # in the file's order: a set's differs from run to run
        same = theirs[counterpart[name]]
        of_size = {(image.height, image.width): image for image in same}
        for image in own[name]:
            if (image.height, image.width) not in of_size:
                other = same[0]
                problem = f"but {image.file_name} is {image.width} wide and {image.height} high in {source}"
                value, hint = f"{other.width} x {other.height}", "Give the truth of these photographs"
                raise UserError(truth.source, f"images[id={other.image_id}]", value, problem, hint)
            found[image.image_id] = of_size[image.height, image.width].image_id
    if own and not found:
        problem = f"none of which is the file_name of a photograph in {truth.source} ({_listed(theirs)})"
        raise UserError(source, "images", _listed(own), problem, "Give the truth of these photographs")
    return found


def match_categories(
    categories: Sequence[Category], truth: InstanceDataset, *, source: str | PathLike[str]
) -> dict[int, int]:
    """Category id -> category id in the truth, of the names that both have; of equal names those of equal id.

    Raises: UserError if there is none, and for a category of the same number but another name in the truth, where all
        other numbers agree: it is either misspelt or of another set.
    """
    found: dict[int, int] = {}
    for key in (lambda c: (c.category_id, c.name), lambda c: plain_text(c.name), lambda c: _folded(c.name)):
        own = [category for category in categories if category.category_id not in found]
        theirs = [category for category in truth.categories if category.category_id not in found.values()]
        found |= {a.category_id: b.category_id for a, b in _only_pairs(own, theirs, key)}
    if categories and not found:
        names = _listed(category.name for category in truth.categories)
        own_names = _listed(category.name for category in categories)
        problem, hint = f"none of which is a category of {source} ({own_names})", "Call the categories the same in both"
        raise UserError(truth.source, "categories", names, problem, hint)
    if all(own_id == their_id for own_id, their_id in found.items()):
        names_there = {category.category_id: category.name for category in truth.categories}
        for category in categories:
            if category.category_id not in found and category.category_id in names_there:
                problem = f"but {source} calls category {category.category_id} {category.name!r}"
                field, hint = f"categories, id {category.category_id}", "Call the same categories the same in both"
                raise UserError(truth.source, field, names_there[category.category_id], problem, hint)
    return found


def renumbering_notes(categories: Sequence[Category], ids: Mapping[int, int], truth: str | PathLike[str]) -> list[str]:
    """One line about categories that have another number in the truth, if any have."""
    moved = [
        f"{category.name} {category.category_id} is {ids[category.category_id]}"
        for category in categories
        if ids.get(category.category_id, category.category_id) != category.category_id
    ]
    return [f"categories are matched by name, since {truth} numbers them otherwise: {_listed(moved)}."] if moved else []


def plain_text(text: str) -> str:
    """Text in one of the ways in which Unicode can compose its letters."""
    return unicodedata.normalize("NFC", text)


def plain_path(name: str) -> str:
    """A file name with slashes between its parts and letters composed in one way."""
    return "/".join(part for part in plain_text(name).replace("\\", "/").split("/") if part not in ("", "."))


def _folded(text: str) -> str:
    return " ".join(plain_text(text).casefold().split())


def _stem(path: str) -> str:
    return _folded(splitext(path)[0])


def _by_path(images: Iterable[ImageRecord]) -> dict[str, list[ImageRecord]]:
    named: dict[str, list[ImageRecord]] = {}
    for image in images:
        named.setdefault(plain_path(image.file_name), []).append(image)
    return named


def _same_paths(own: Iterable[str], theirs: Iterable[str]) -> dict[str, str]:
    """Path -> its counterpart: the same one; else, of the others, the only one in other capitals; else the only one
    with another suffix; else the only one of which one is the end of the other."""
    found = {path: path for path in set(own) & set(theirs)}
    for pairs in (
        lambda a, b: _only_pairs(a, b, _folded),
        lambda a, b: _only_pairs(a, b, _stem),
        _tail_pairs,
    ):
        taken = set(found.values())
        found |= pairs([path for path in own if path not in found], [path for path in theirs if path not in taken])
    return found


def _only_pairs(own: Iterable[_T], theirs: Iterable[_T], key: Callable[[_T], Hashable]) -> list[tuple[_T, _T]]:
    """Pairs of equal keys, where each side has that key once."""
    groups: dict[Hashable, tuple[list[_T], list[_T]]] = defaultdict(lambda: ([], []))
    for side, items in enumerate((own, theirs)):
        for item in items:
            groups[key(item)][side].append(item)
    return [(a[0], b[0]) for a, b in groups.values() if len(a) == len(b) == 1]


def _tail_pairs(own: Sequence[str], theirs: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of which one path ends with the other, where neither has another such partner."""
    own_tails, their_tails = _tails(own), _tails(theirs)
    pairs = {pair for path in own for pair in product([path], their_tails[_parts(path)])}
    pairs |= {pair for path in theirs for pair in product(own_tails[_parts(path)], [path])}
    partners: dict[tuple[int, str], int] = defaultdict(int)
    for pair in pairs:
        for side in enumerate(pair):
            partners[side] += 1
    return [pair for pair in sorted(pairs) if all(partners[side] == 1 for side in enumerate(pair))]


def _tails(paths: Iterable[str]) -> dict[tuple[str, ...], list[str]]:
    tails: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for path in paths:
        parts = _parts(path)
        for start in range(len(parts)):
            tails[parts[start:]].append(path)
    return tails


def _parts(path: str) -> tuple[str, ...]:
    return tuple(_folded(path).split("/"))


def _note(names: Sequence[str], what: str, remark: str) -> list[str]:
    return [f"{len(names)} {what} {remark} ({_listed(names)})."] if names else []


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_NAMED]) + (" ..." if len(names) > _NAMED else "")
