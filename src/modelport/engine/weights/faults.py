"""What can be wrong with weights: one error type, and for each fault the exit code that a command ends with."""

from __future__ import annotations

import enum


class WeightsFault(enum.StrEnum):
    """The kinds of trouble, each with its own remedy."""

    UNKNOWN_NAME = "unknown_name"
    DAMAGED = "damaged"
    HASH_MISMATCH = "hash_mismatch"
    NO_NETWORK = "no_network"
    NOT_IN_INDEX = "not_in_index"
    CONVERSION_FAILED = "conversion_failed"
    NO_PIP = "no_pip"
    DISK_FULL = "disk_full"
    NOT_WRITABLE = "not_writable"

    @property
    def exit_code(self) -> int:
        """The process exit code, one per fault."""
        return _EXIT_CODES[self]


_EXIT_CODES = {
    WeightsFault.UNKNOWN_NAME: 64,
    WeightsFault.DAMAGED: 65,
    WeightsFault.HASH_MISMATCH: 66,
    WeightsFault.NO_NETWORK: 69,
    WeightsFault.CONVERSION_FAILED: 70,
    WeightsFault.NO_PIP: 71,
    WeightsFault.NOT_IN_INDEX: 72,
    WeightsFault.DISK_FULL: 73,
    WeightsFault.NOT_WRITABLE: 74,
}


class WeightsError(Exception):
    """Weights cannot be found, fetched, checked or converted. `str()` is one line that names the remedy."""

    def __init__(self, fault: WeightsFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault

    @property
    def exit_code(self) -> int:
        """The process exit code for a command that ends because of this."""
        return self.fault.exit_code
