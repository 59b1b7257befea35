"""Weights in and out: AdelaiDet's key names, Detectron2's pickles, our model file."""
