"""Which content filter a deployment has that names none."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Final

from modelport.config.settings import Settings
from modelport.core.safety import NOTHING
from modelport.engine.weights.faults import WeightsError
from modelport.engine.weights.places import locate

WHERE_INSTALLED: Final = "Microsoft.DefaultV2"
"""The default where the local classifier is installed; elsewhere it filters nothing."""
CLASSIFIER: Final = ("onnxruntime", "tokenizers", "numpy", "svguardian", "modelport.safety.classifier")
MODEL: Final = "all-minilm-l6-v2"


def default_content_filter(settings: Settings) -> str:
    """The name of the policy that is in force, as it was written."""
    return settings.server.default_content_filter or (WHERE_INSTALLED if has_classifier(settings) else NOTHING)


def has_classifier(settings: Settings) -> bool:
    """Whether the filter `classifier` can run here."""
    return is_installed(settings.server.data_dir)


@functools.cache
def is_installed(data_dir: Path) -> bool:
    """Whether its packages and its weights are here. Looked for once, so that a running server's default stays."""
    try:
        found = all(importlib.util.find_spec(module) is not None for module in CLASSIFIER)
        return found and locate(MODEL, data_dir) is not None
    except WeightsError:
        return False
