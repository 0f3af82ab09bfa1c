from __future__ import annotations

from modelport.core.environment import COMPUTE, NO_TELEMETRY, PACKAGE_INDEX, POSTGRESQL, child_environment

GIVEN = {
    "PATH": "/bin",
    "HOME": "/home/x",
    "LC_ALL": "C",
    "PYTHONPATH": "x",
    "OMP_NUM_THREADS": "2",
    "NVIDIA_VISIBLE_DEVICES": "0",
    "NVIDIA_API_KEY": "canary",
    "LLAMA_ARG_API_KEY": "canary",
    "PYTHON_INDEX_TOKEN": "canary",
    "XDG_SECRET": "canary",
    "MODELPORT_API_KEY": "canary",
    "MODELPORT_DATABASE_URL": "canary",
    "HTTPS_PROXY": "proxy",
    "PGPASSWORD": "pg",
    "PIP_INDEX_URL": "index",
    "AWS_SECRET_ACCESS_KEY": "canary",
}


def test_every_child_has_what_a_program_needs_and_no_telemetry():
    found = child_environment(GIVEN)
    assert found == {"PATH": "/bin", "HOME": "/home/x", "LC_ALL": "C", "PYTHONPATH": "x", **NO_TELEMETRY}
    assert found["ORT_DISABLE_TELEMETRY"] == "1"


def test_a_child_has_what_its_own_work_needs_besides():
    more = {p: child_environment(GIVEN, p).keys() - child_environment(GIVEN).keys() for p in (COMPUTE, POSTGRESQL)}
    assert more == {COMPUTE: {"OMP_NUM_THREADS", "NVIDIA_VISIBLE_DEVICES"}, POSTGRESQL: {"PGPASSWORD"}}
    assert {"HTTPS_PROXY", "PIP_INDEX_URL"} <= child_environment(GIVEN, PACKAGE_INDEX).keys()


def test_no_pattern_lets_a_secret_through():
    found = child_environment(GIVEN, COMPUTE, POSTGRESQL, PACKAGE_INDEX, r"\w+_KEY")
    assert "canary" not in found.values()
