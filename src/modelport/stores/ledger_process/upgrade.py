"""Makes or migrates one database and ends: `python -m modelport.stores.ledger_process.upgrade`, the database on its
input. What fails stands on its output."""

from __future__ import annotations

import sys

from modelport.core.usage_reports import LedgerUnavailable
from modelport.stores.ledger_process.messages import DATABASE_DECODER, address_of
from modelport.stores.sql.database import open_for_writing


def main() -> None:
    """Exit status 1: it could not be done."""
    try:
        open_for_writing(address_of(DATABASE_DECODER.decode(sys.stdin.buffer.readline()))).dispose()
    except LedgerUnavailable as failure:
        sys.stdout.write(f"{failure}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
