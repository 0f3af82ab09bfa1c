"""YAML text becomes plain data with line numbers, or a ConfigError: nothing else, whatever the text."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelport.config.document import BYTES_LIMIT, DEPTH_LIMIT, read_document
from modelport.config.faults import ConfigError


def refusal(text: bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        read_document(text, "f.yaml")
    return str(caught.value)


def test_every_key_and_list_item_has_its_line() -> None:
    document = read_document(b"a:\n  b: 1\n  c:\n    - x\n    - y: 2\n", "f.yaml")
    assert document.data == {"a": {"b": 1, "c": ["x", {"y": 2}]}}
    assert document.lines == {
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "c"): 3,
        ("a", "c", 0): 4,
        ("a", "c", 1): 5,
        ("a", "c", 1, "y"): 5,
    }


@pytest.mark.parametrize("text", [b"", b"# only a comment\n", b"---\n", b"null\n"])
def test_an_empty_file_configures_nothing(text: bytes) -> None:
    assert read_document(text, "f.yaml").data == {}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("012", 12),
        ("0x1F", 31),
        ("-3", -3),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("true", True),
        ("False", False),
        ("off", "off"),
        ("yes", "yes"),
        ("NO", "NO"),
        ("12:30", "12:30"),
        ("2030-01-01", "2030-01-01"),
        ("~", None),
        ("'7'", "7"),
        ("!!str 7", "7"),
        ("!!int 7", 7),
        ("9" * 50, "9" * 50),
    ],
)
def test_plain_scalars_mean_what_yaml_1_2_says(written: str, meant: object) -> None:
    value = read_document(f"a: {written}\n".encode(), "f.yaml").data["a"]
    assert value == meant
    assert type(value) is type(meant)


def test_a_key_given_twice_is_a_fault_with_both_lines() -> None:
    document = read_document(b"a: 1\nb: 2\na: 3\n", "f.yaml")
    assert [str(fault) for fault in document.faults] == ["f.yaml:3: a: is given twice (first at line 1)"]
    assert document.data == {"a": 1, "b": 2}


def test_an_alias_repeats_its_value_and_keeps_the_line_of_its_own_key() -> None:
    document = read_document(b"a: &x {k: 1}\nb: *x\n", "f.yaml")
    assert document.data == {"a": {"k": 1}, "b": {"k": 1}}
    assert document.lines["b",] == 2


def test_a_merged_mapping_gives_way_to_the_keys_written_beside_it() -> None:
    document = read_document(b"a: &x {k: 1, j: 2}\nb:\n  k: 5\n  <<: *x\n", "f.yaml")
    assert document.data["b"] == {"k": 5, "j": 2}
    assert document.lines["b", "k"] == 3
    assert document.faults == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a: [\n", "is not valid YAML"),
        (b"[1, 2]", "must be a mapping of settings"),
        (b"just words", "must be a mapping of settings"),
        (b"a: 1\n---\nb: 2\n", "f.yaml:2: is not valid YAML"),
        (b"a: 1\nb: \x00\n", "f.yaml:2: holds a character that YAML does not allow"),
        (b"a: 1\nb: \xff\n", "f.yaml:2: is not UTF-8 text"),
        (b'a: "\\U00FFFFFF"', "is not valid YAML (ValueError)"),
        (b"a: &x [*x]", "a[0]: is an alias of a value that contains it"),
        (b"a: *nowhere", "found undefined alias"),
        (b"a: " + b"[" * (DEPTH_LIMIT + 1), f"is nested deeper than {DEPTH_LIMIT} levels"),
        (b"#" * (BYTES_LIMIT + 1), "is larger than 1,048,576 bytes"),
    ],
)
def test_text_that_is_no_configuration_is_refused_with_a_reason(text: bytes, said: str) -> None:
    assert said in refusal(text)


def test_aliases_of_aliases_cannot_multiply_without_end() -> None:
    lines = [b"a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for level in range(1, 30):
        previous = b"*a%d" % (level - 1)
        lines.append(b"a%d: &a%d [%s]" % (level, level, b", ".join([previous] * 10)))
    assert "holds more than 50,000 values" in refusal(b"\n".join(lines))


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!Ref", "!!binary", "!!set"])
def test_a_tag_makes_nothing_but_a_fault(tag: str) -> None:
    document = read_document(f"a: {tag} ls\n".encode(), "f.yaml")
    assert document.data == {"a": None}
    assert "is not allowed" in document.faults[0].what


def test_a_number_that_is_not_finite_is_a_fault() -> None:
    assert "not a finite number" in read_document(b"a: .inf\n", "f.yaml").faults[0].what


def test_a_compound_key_is_a_fault() -> None:
    assert "a key must be plain text" in read_document(b"? [1]\n: 2\n", "f.yaml").faults[0].what


YAMLISH = st.text(alphabet=st.sampled_from(list("ab01:-[]{}&*!|>'\"#%@`,?<=. \n\t~\\U\u2028\ufeff")), max_size=60)


@given(st.one_of(st.binary(max_size=60), YAMLISH.map(str.encode)))
@example(b'a: "\\ud800"')
@example(b"%YAML 99999999999999999999.1\n---\na: 1")
@example(b"<<: [a, b]")
@example(b"!!map a")
@example(b"? ")
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_read_or_refused_as_a_configuration_error(raw: bytes) -> None:
    try:
        document = read_document(raw, "f.yaml")
    except ConfigError as exc:
        assert exc.faults
    else:
        json.dumps(document.data, allow_nan=False).encode()
        assert all(line >= 1 for line in document.lines.values())


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), PLAIN, max_size=4))
@example({"\U00010000": "\U0001f600", "\x7f": "\x00\x85\u2028"})
@settings(max_examples=200, deadline=None)
def test_json_is_read_as_what_it_says(data: dict[str, object]) -> None:
    assert read_document(json.dumps(data).encode(), "f.yaml").data == data


@pytest.mark.parametrize("text", [b'"\\ud800": 1', b'a: "\\ud800"'])
def test_half_a_surrogate_pair_is_a_fault(text: bytes) -> None:
    assert "half a surrogate pair" in read_document(text, "f.yaml").faults[0].what
