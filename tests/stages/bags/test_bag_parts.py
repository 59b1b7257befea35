import pytest

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.bags.tasks import wanted_shards


@pytest.mark.parametrize(("shards", "parts"), [(1, 1), (7, 3), (8, 8), (1848, 64)])
def test_the_parts_of_a_store_are_all_its_shards_once_and_of_like_size(shards, parts):
    ranges = [wanted_shards(f"{place}/{parts}", shards) for place in range(1, parts + 1)]
    assert [index for part in ranges for index in part] == list(range(shards))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3", "1/3 "])
def test_what_is_no_part_is_refused(part):
    with pytest.raises(UserError, match="not K/N"):
        wanted_shards(part, 10)


def test_more_parts_than_shards_are_refused():
    with pytest.raises(UserError, match=r"part = 1/11, but there are only 10 shards.*at most 10 parts"):
        wanted_shards("1/11", 10)
