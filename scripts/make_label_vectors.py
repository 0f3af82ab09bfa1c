"""Makes `imagenet_label_vectors.npz`: for each ImageNet-1k class, the unit vector that MiniLM gives to its label.

    python scripts/make_label_vectors.py SYNSETS LEMMAS

SYNSETS names one WordNet id per line, in the order of the classifier's classes; LEMMAS has `id<TAB>word, word, …`. The
package `timm` (Apache-2.0) carries both as `timm/data/_info/imagenet_synsets.txt` and `imagenet_synset_to_lemma.txt`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from modelport.engine import onnx, weights
from modelport.engine.onnx.text import TextModel

OUT = Path(onnx.__file__).parent / "data" / "imagenet_label_vectors.npz"
BATCH = 50


def main(synsets: Path, lemmas: Path) -> None:
    """Embeds the first word of each class and stores the vectors with half precision."""
    words = dict(line.split("\t", 1) for line in lemmas.read_text(encoding="utf-8").splitlines())
    labels = [words[synset].split(",")[0].strip() for synset in synsets.read_text(encoding="utf-8").split()]
    options = weights.worker_options("all-minilm-l6-v2", Path("~/.local/share/modelport").expanduser())
    if options is None:
        raise SystemExit("all-minilm-l6-v2 is not here: `modelport models pull all-minilm-l6-v2`")
    model = TextModel(options, Path(options["weights"]), threads=1)
    rows = [model.embed(model.tokenized(labels[start : start + BATCH])) for start in range(0, len(labels), BATCH)]
    np.savez_compressed(OUT, vectors=np.concatenate(rows).astype(np.float16))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
