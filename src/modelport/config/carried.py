"""The price list that comes with the package."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from modelport.control.prices import CarriedList, carried_list


@cache
def read_carried() -> CarriedList:
    """Reads it once."""
    return carried_list(files("modelport.control").joinpath("prices_data", "prices.json").read_bytes())
