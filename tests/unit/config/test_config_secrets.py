"""A secret shows itself to `reveal` alone; the key that we make is private, whole and made once."""

from __future__ import annotations

import copy
import dataclasses
import json
import multiprocessing
import pickle
import stat
import traceback
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.config.faults import ConfigError
from modelport.config.load import load, read
from modelport.config.secrets import Secret, SecretFault, SecretSources, generated_key, stored_key

VALUE = "hunter2-hunter2"


@dataclasses.dataclass(frozen=True)
class Holder:
    secret: Secret


@given(st.text(min_size=8))
def test_no_way_to_print_a_secret_shows_it(value: str) -> None:
    secret = Secret(value, "env:NAME")
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret:>40}",
        repr(Holder(secret)),
        repr([secret]),
    ]
    assert all(value not in text for text in shown)
    assert secret.reveal() == value


def test_a_secret_is_not_serialised() -> None:
    secret = Secret(VALUE, "env:NAME")
    for serialise in (pickle.dumps, json.dumps, msgspec.json.encode):
        with pytest.raises(TypeError):
            serialise(secret)
    with pytest.raises(TypeError):
        vars(secret)


def test_secrets_compare_with_secrets_only() -> None:
    assert Secret(VALUE, "env:A") == Secret(VALUE, "file:b")
    assert Secret(VALUE, "env:A") != Secret("another", "env:A")
    assert (Secret(VALUE, "env:A") == VALUE) is False
    assert Secret("ключ", "env:A") == Secret("ключ", "env:B")


def test_a_copy_is_the_secret_itself() -> None:
    secret = Secret(VALUE, "env:NAME")
    assert copy.deepcopy(Holder(secret)).secret is secret
    assert dataclasses.asdict(Holder(secret))["secret"] is secret


def test_settings_never_show_a_secret_and_a_traceback_neither(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text('auth: {keys: ["env:KEY"]}\nkeys: {k: {key1: "env:OTHER", operations: [nothing]}}\n')
    environ = {"KEY": VALUE, "OTHER": VALUE + "2", "HOME": "/h"}
    with pytest.raises(ConfigError) as caught:
        load(path, environ)
    told = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "keys.k.operations[0]" in told
    assert VALUE not in told.replace(repr(environ), "")  # `environ` is this test's own local

    path.write_text('auth: {keys: ["env:KEY"]}\n')
    settings = load(path, environ)
    for shown in (
        repr(settings),
        str(settings),
        settings.model_dump_json(),
        repr(settings.model_dump()),
        repr(vars(settings)),
    ):
        assert VALUE not in shown
    assert json.loads(settings.model_dump_json())["auth"]["keys"] == ["***"]
    with pytest.raises(TypeError):
        pickle.dumps(settings)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("env:NOWHERE", "the environment variable NOWHERE is not set"),
        ("env:BLANK", "the environment variable BLANK is empty"),
        ("file:absent", "No such file or directory"),
        ("file:.", "is not a regular file"),
        ("file:empty", "is empty"),
        ("file:binary", "is not UTF-8 text"),
        ("file:a\0b", "not a path"),
        ("hunter2", "a secret is not written here; write env:NAME or file:PATH"),
        ("env:", "a secret is not written here"),
        ("env:A B", "a secret is not written here"),
        ("", "a secret is not written here"),
        (7, "a secret is not written here"),
        (None, "a secret is not written here"),
        ({"env": "A"}, "a secret is not written here"),
    ],
)
def test_a_reference_that_leads_nowhere_says_why_and_repeats_no_value(
    tmp_path: Path, reference: object, said: str
) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SecretFault) as caught:
        SecretSources({"BLANK": " "}, tmp_path).resolve(reference)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_file_gives_its_text_without_the_last_line_end(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{VALUE}\n")
    (tmp_path / "key").chmod(0o600)
    sources = SecretSources({}, tmp_path)
    assert sources.resolve("file:key").reveal() == VALUE
    assert sources.warnings == []


def test_a_file_that_others_may_read_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(VALUE)
    (tmp_path / "key").chmod(0o644)
    (tmp_path / "c.yaml").write_text('auth: {keys: ["file:key"]}\n')
    loaded = read(tmp_path / "c.yaml", {"HOME": "/h"})
    assert loaded.warnings == (f"{tmp_path}/key holds a secret and others may read it (mode 0644)",)
    assert loaded.settings.auth.keys[0].reveal() == VALUE


def test_a_key_that_no_header_can_carry_is_a_fault_without_its_value(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text('auth: {keys: ["env:KEY"]}\n')
    with pytest.raises(ConfigError) as caught:
        load(path, {"KEY": "hunter\t2", "HOME": "/h"})
    said = f"{path}:1: auth.keys[0]: the key from env:KEY holds a character that cannot be sent in a header"
    assert str(caught.value) == said


def test_a_key_may_hold_spaces_inside(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text('auth: {keys: ["env:KEY"]}\n')
    settings = load(path, {"KEY": " blue  door 7 ", "HOME": "/h"})
    assert [key.reveal() for key in settings.auth.keys] == ["blue  door 7"]


def test_the_generated_key_is_made_once_and_private(tmp_path: Path) -> None:
    data_dir = tmp_path / "deep" / "data"
    assert not data_dir.exists()
    made = generated_key(data_dir)
    again = generated_key(data_dir)
    assert (made.is_new, again.is_new) == (True, False)
    assert made.secret == again.secret
    assert len(made.secret.reveal()) >= 32
    assert set(made.secret.reveal()) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert [item.name for item in data_dir.iterdir()] == ["api-key"]
    assert generated_key(tmp_path / "other").secret != made.secret


def test_reading_the_stored_key_makes_none(tmp_path: Path) -> None:
    assert stored_key(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_stored_key_that_others_could_read_is_closed_again(tmp_path: Path) -> None:
    path = generated_key(tmp_path).path
    path.chmod(0o644)
    generated_key(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"two words\n", b"\xff"])
def test_a_damaged_key_file_is_told_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "api-key").write_bytes(content)
    with pytest.raises(OSError, match="holds no key; delete it"):
        generated_key(tmp_path)
    assert (tmp_path / "api-key").read_bytes() == content


def _key_of(data_dir: str) -> tuple[str, bool]:
    made = generated_key(Path(data_dir))
    return made.secret.reveal(), made.is_new


def test_starts_at_the_same_time_agree_on_one_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        keys = pool.map(_key_of, [str(tmp_path / "data")] * 16, chunksize=1)
    assert len({key for key, _ in keys}) == 1
    assert sum(is_new for _, is_new in keys) == 1
