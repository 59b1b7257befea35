"""Which shards a run makes when a store is made in parts, on machines that know nothing of each other."""

import re

from data.errors import UserError


def wanted_shards(part: str, shards: int) -> range:
    """The shards of part ``K/N``: the K-th of N runs of consecutive shards that together are all of them.

    Raises: UserError if `part` is not K/N with 1 <= K <= N, or there are fewer shards than parts.
    """
    match = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,8})", part)
    if match is None or int(match[1]) > int(match[2]):
        raise UserError("settings", "part", part, "which is not K/N with K from 1 to N", "Give for example part=2/8")
    place, count = int(match[1]), int(match[2])
    if count > shards:
        mend = f"Make at most {shards} parts, or lower shard_images in all of them"
        raise UserError("settings", "part", part, f"but there are only {shards} shards to share out", mend)
    return range((place - 1) * shards // count, place * shards // count)
