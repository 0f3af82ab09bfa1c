"""What can be wrong with weights: one error type, and the kinds of trouble, each with its own remedy."""

from __future__ import annotations

import enum


class WeightsFault(enum.StrEnum):
    """The kinds of trouble."""

    UNKNOWN_NAME = "unknown_name"
    ABSENT = "absent"
    DAMAGED = "damaged"
    HASH_MISMATCH = "hash_mismatch"
    NO_NETWORK = "no_network"
    NOT_IN_INDEX = "not_in_index"
    CONVERSION_FAILED = "conversion_failed"
    NO_PIP = "no_pip"
    DISK_FULL = "disk_full"
    NOT_WRITABLE = "not_writable"


class WeightsError(Exception):
    """Weights cannot be found, fetched, checked or converted. `str()` is one line that names the remedy."""

    def __init__(self, fault: WeightsFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault
