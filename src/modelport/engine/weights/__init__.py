"""Weights of the embedded models: what there is, where it lies, and how it comes here."""

from modelport.engine.weights.catalogue import CATALOGUE, ModelNouns, Piece, WeightFile, Weights, find
from modelport.engine.weights.faults import WeightsError, WeightsFault
from modelport.engine.weights.places import (
    Found,
    WeightsState,
    locate,
    look,
    models_folder,
    remove,
    verify,
    worker_options,
)

__all__ = [
    "CATALOGUE",
    "Found",
    "ModelNouns",
    "Piece",
    "WeightFile",
    "Weights",
    "WeightsError",
    "WeightsFault",
    "WeightsState",
    "find",
    "locate",
    "look",
    "models_folder",
    "remove",
    "verify",
    "worker_options",
]
