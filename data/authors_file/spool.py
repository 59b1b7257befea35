"""Bags that come in any order, kept on disk until they can be written in the store's order."""

import json
from array import array
from collections.abc import Mapping
from typing import IO

import numpy as np
from numpy.typing import NDArray

from sapnet_pipe.data.bag_store.schema import Bag
from sapnet_pipe.data.coco.instances import ImageRecord


class BagSpool:
    """A file of bags that is written once and read in order; memory holds three numbers per bag."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._image_id, self._point_id, self._offset = array("q"), array("q"), array("q")

    def __len__(self) -> int:
        return len(self._offset)

    def add(self, bag: Bag) -> None:
        """Keep a bag."""
        columns = (bag.box_xyxy, bag.area, bag.score, bag.stability, bag.source)
        counts = [code.decode("ascii") for code in bag.counts]
        values = [bag.point_id, bag.category_id, bag.point_xy, counts, *(column.tolist() for column in columns)]
        self._image_id.append(bag.image_id)
        self._point_id.append(bag.point_id)
        self._offset.append(self._file.tell())
        self._file.write(json.dumps(values).encode() + b"\n")

    def shards(self, shard_images: int) -> list[NDArray[np.int64]]:
        """The places of the bags of every shard, in the order (image_id, point_id), `shard_images` images a shard."""
        if not len(self):
            return []
        image_id = np.frombuffer(self._image_id, np.int64)
        order = np.lexsort((np.frombuffer(self._point_id, np.int64), image_id))
        # Number of the image, in order, that each bag belongs to: a new one wherever the id changes.
        number = np.cumsum(np.diff(image_id[order], prepend=image_id[order[0]]) != 0)
        return np.split(order, np.flatnonzero(np.diff(number // shard_images)) + 1)

    def bag(self, place: int, images: Mapping[int, ImageRecord]) -> Bag:
        """The bag that was kept as number `place`."""
        self._file.seek(self._offset[place])
        point_id, category_id, (x, y), counts, box, area, score, stability, source = json.loads(self._file.readline())
        image = images[self._image_id[place]]
        return Bag(
            image_id=image.image_id,
            file_name=image.file_name,
            height=image.height,
            width=image.width,
            point_id=point_id,
            category_id=category_id,
            point_xy=(x, y),
            counts=[code.encode("ascii") for code in counts],
            box_xyxy=np.array(box, np.float32),
            area=np.array(area, np.int32),
            score=np.array(score, np.float32),
            stability=np.array(stability, np.float32),
            source=np.array(source, np.int8),
        )
