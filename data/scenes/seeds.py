"""Scene seeds by purpose. The ranges are disjoint, so nothing is measured on a scene that some training has seen."""

DEMO_TRAIN = range(1_000_000, 2_000_000)
DEMO_TEST = range(2_000_000, 3_000_000)
TINY_SAM_TEST = range(3_000_000, 4_000_000)
TINY_SAM_TRAIN = range(10_000_000, 20_000_000)
