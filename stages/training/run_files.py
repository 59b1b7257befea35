"""Names of the files in a run folder; no other module spells them out."""

from pathlib import Path

# Every run.
CONFIG = "config.toml"  # settings, resolved
MANIFEST = "manifest.json"  # command, versions, seed, fingerprints of the inputs, status and result

# Every training loop of ours.
METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
CHECKPOINT = "checkpoints/last.pt"

# select
PSEUDO_LABELS = "pseudo_labels.json"
EXPLANATIONS = "explain.parquet"
OBJECTS = "objects.parquet"  # with a truth: how well each object is covered
BACKBONE = "backbone.json"  # settings of the backbone, every `auto` resolved
FEATURES = "features"  # of a frozen backbone, where they cannot lie beside the store

# train-seg
MODEL = "model_final.pth"
MODEL_DESCRIPTION = "model.json"

# train-seg by Detectron2, which names most of these itself
INITIAL_MODEL = "model_start.pth"
LAST_CHECKPOINT = "last_checkpoint"
DETECTRON2_CONFIG = "config.yaml"
DETECTRON2_METRICS = "metrics.json"
DETECTRON2_LOG = "log.txt"
INFERENCE = "inference"
INFERENCE_RESULTS = "inference/coco_instances_results.json"
INFERENCE_TRUTH = "inference/truth.json"
DETECTRON2_RESULT = ".detectron2-result.json"
DETECTRON2_FAULT = ".detectron2-fault.json"

# demo
TEST_PREDICTIONS = "test_predictions.json"
TRAIN_PREDICTIONS = "train_predictions.json"
PICTURED_IMAGES = "pictured_images.json"


def image_ids_beside(predictions: Path) -> Path:
    """The file that tells which id each photograph has in `predictions`."""
    return predictions.with_name(f"{predictions.stem}.images.json")
