"""An ablation that takes seconds on the toy job: three rows, of which two share their selectors, and two seeds."""

COMMAND = "ablate --bags bags --images images --truth truth.json --config plan.toml --out abl --quiet"
PLAN = """
title = "Toy"
seeds = 2
select_preset = "demo"
compare = "previous"

[select]
train = { max_iterations = 2, batch_size = 2, log_every = 1, checkpoint_every = 1 }
image = { short_side = 64, long_side = 64 }
backbone = { width = 16 }
head = { channels = 16 }
negatives = { random_boxes = 10 }

[[variants]]
name = "single MIL"
select = { method = "single-mil" }

[[variants]]
name = "SAPNet"

[[variants]]
name = "SAPNet with MPS"
segment = { loss = { mps_weight = 0.25 } }
"""
TABLES = ("plan.md", "plan.csv", "plan.json", "plan.png")
