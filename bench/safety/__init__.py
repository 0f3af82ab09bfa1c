"""How well the safety classifiers find what they should, and what they cost: `python -m bench.safety`."""
