"""Writes the golden files of whole calls anew, from the driver that is named: python -m tests.golden.write [lane]"""

from __future__ import annotations

import os
import sys

import pytest

if __name__ == "__main__":
    driver = sys.argv[1] if len(sys.argv) > 1 else "plain"
    os.environ |= {"MODELPORT_TEST_WRITE_GOLDEN": driver, "MODELPORT_TEST_DRIVERS": driver}
    sys.exit(pytest.main(["-q", "tests/lane/test_differential.py", "-k", "golden_file"]))
