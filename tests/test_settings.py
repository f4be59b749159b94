"""File, environment and overrides become checked settings, and every fault is one line that names its key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from fairlead.errors import SettingsError
from fairlead.settings import (
    SECRET,
    BrokerSettings,
    File,
    Host,
    Networks,
    Section,
    each,
    load,
    parse,
    read_yaml,
    split_list,
    variable,
    within,
)


def even(value: int) -> None:
    if value % 2:
        raise ValueError(f"must be even, not {value}")


@dataclass(frozen=True, kw_only=True)
class Bounds:
    low: int = 1
    high: int = 9


class Inner(Section, frozen=True):
    port: Annotated[int, within(0, 10)] = 5
    ratio: float = 0.5
    names: tuple[str, ...] = ()
    steps: Annotated[tuple[int, ...], each(even)] = ()
    mode: Literal["slow", "fast"] = "slow"
    is_on: bool = False
    table: Mapping[str, int] = {}
    password: Annotated[str, SECRET] = ""
    most: int | None = None


class Needed(Section, frozen=True):
    url: str


class Root(Section, frozen=True, kw_only=True):
    debug: bool = False
    inner: Inner = Inner()
    needed: Needed
    bounds: Bounds = Bounds(high=100)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bounds.low > self.bounds.high:
            raise SettingsError("bounds.low: above bounds.high")


URL: dict[str, object] = {"needed.url": "u"}


def read(file: str | bytes = "", environ: Mapping[str, str] | None = None, **overrides: object) -> Root:
    data = file.encode() if isinstance(file, str) else file
    given = URL | {key.replace("__", "."): value for key, value in overrides.items()}
    return parse(Root, data, environ or {}, given, place="f.toml")


def fault(file: str | bytes = "", environ: Mapping[str, str] | None = None, **overrides: object) -> str:
    with pytest.raises(SettingsError) as caught:
        read(file, environ, **overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_anything_given_defaults_hold() -> None:
    assert read() == Root(needed=Needed("u"))


def test_override_wins_over_environment_and_environment_over_file() -> None:
    file = "[inner]\nport = 1\nratio = 1.5\nnames = ['file']"
    environ = {"FAIRLEAD_INNER__PORT": "2", "FAIRLEAD_INNER__RATIO": "2.5"}
    inner = read(file, environ, inner__port=3).inner
    assert (inner.port, inner.ratio, inner.names) == (3, 2.5, ("file",))


def test_override_of_none_counts_as_not_given() -> None:
    assert read("[inner]\nport = 1", inner__port=None).inner.port == 1


def test_part_of_a_section_keeps_the_defaults_that_its_parent_gave() -> None:
    assert read("[bounds]\nlow = 7").bounds == Bounds(low=7, high=100)


def test_whole_number_in_the_file_is_a_float() -> None:
    assert read("[inner]\nratio = 3").inner.ratio == 3.0


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("port", "7", 7),
        ("ratio", "0.25", 0.25),
        ("names", "a, b,,c ", ("a", "b", "c")),
        ("names", '["a, b", "c"]', ("a, b", "c")),
        ("steps", "[2, 4]", (2, 4)),
        ("steps", "2,4", (2, 4)),
        ("mode", "fast", "fast"),
        ("is_on", "true", True),
        ("is_on", "0", False),
        ("table", '{"a": 1}', {"a": 1}),
        ("password", "[x", "[x"),
        ("most", "3", 3),
    ],
)
def test_variable_holds_text_for_every_type(name: str, text: str, value: object) -> None:
    inner = read("", {f"FAIRLEAD_INNER__{name.upper()}": text}).inner
    assert getattr(inner, name) == value


def test_empty_variable_counts_as_unset() -> None:
    assert read("[inner]\nport = 1", {"FAIRLEAD_INNER__PORT": ""}).inner.port == 1


def test_variables_without_double_underscore_are_left_alone() -> None:
    kubernetes = {"FAIRLEAD_PORT": "tcp://10.0.0.1:8100", "FAIRLEAD_SERVICE_HOST": "10.0.0.1", "INNER__PORT": "x"}
    assert read("", kubernetes).inner.port == 5


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("[inner]\nprot = 1", "f.toml: unknown key inner.prot; the nearest known one is inner.port"),
        ("[iner]\nport = 1", "f.toml: unknown key iner; the nearest known one is inner"),
        ("debgu = true", "f.toml: unknown key debgu; the nearest known one is debug"),
        ("inner = 1", "f.toml: inner: must be a table"),
        ("[inner]\nport = '1'", "f.toml: inner.port: expected int, got str"),
        ("[inner]\nport = true", "f.toml: inner.port: expected int, got bool"),
        ("[inner]\nport = 11", "f.toml: inner.port: must be from 0 to 10, not 11"),
        ("[inner]\nnames = 'a'", "f.toml: inner.names: expected array, got str"),
        ("[inner]\nnames = ['a', 2]", "f.toml: inner.names: expected str, got int, at [1]"),
        ("[inner]\nsteps = [2, 3]", "f.toml: inner.steps: must be even, not 3"),
        ("[inner]\nmode = 'fats'", "f.toml: inner.mode: must be 'slow' or 'fast'"),
        ("[bounds]\nlow = 'x'", "f.toml: bounds.low: expected int, got str"),
        ("[bounds]\nlow = 200", "f.toml: bounds.low: above bounds.high"),
        ("[inner]\nport =\n", "f.toml: Invalid value (at line 2, column 7)"),
        (b"[inner]\n# \xff", "f.toml: not UTF-8 (at byte 10)"),
    ],
)
def test_fault_in_the_file_names_file_and_key(file: str | bytes, text: str) -> None:
    assert fault(file) == text


def test_file_nested_without_end_is_a_fault_like_another() -> None:
    assert fault("a = " + "[" * 100_000).startswith("f.toml: ")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("INNER__PROT", "1", "unknown environment variable FAIRLEAD_INNER__PROT; the nearest known one is {}PORT"),
        ("INNER__PORT", "x", "{}PORT: inner.port: expected int, got str"),
        ("INNER__PORT", "11", "{}PORT: inner.port: must be from 0 to 10, not 11"),
        ("INNER__IS_ON", "yes", "{}IS_ON: inner.is_on: expected bool, got str"),
        ("INNER__NAMES", "[1]", "{}NAMES: inner.names: expected str, got int, at [0]"),
        ("INNER__TABLE", '{"a"', "{}TABLE: inner.table: Input data was truncated"),
        ("INNER__PORT", "\udcff", "{}PORT: inner.port: not UTF-8"),
        ("INNER__NAMES", "a,\udcff", "{}NAMES: inner.names: not UTF-8"),
    ],
)
def test_fault_in_the_environment_names_the_variable(name: str, value: str, text: str) -> None:
    assert fault("", {f"FAIRLEAD_{name}": value}) == text.format("FAIRLEAD_INNER__")


def test_fault_in_an_override_says_so() -> None:
    assert fault(inner__port=11) == "command line: inner.port: must be from 0 to 10, not 11"
    assert fault(inner__prot=1) == "unknown key inner.prot; the nearest known one is inner.port"


def test_missing_key_is_named_with_its_variable() -> None:
    with pytest.raises(SettingsError, match=r"^needed.url: missing; set it in the file or as FAIRLEAD_NEEDED__URL$"):
        parse(Root, b"", {}, {})


def test_rules_hold_for_a_section_made_by_hand() -> None:
    with pytest.raises(SettingsError, match="^port: must be from 0 to 10"):
        Inner(port=-1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 10.1])
def test_within_refuses_what_is_no_number_between(value: float) -> None:
    with pytest.raises(ValueError, match="must be from 0 to 10"):
        within(0, 10)(value)


def test_secret_is_in_no_text() -> None:
    settings = read("", {"FAIRLEAD_INNER__PASSWORD": "hunter2"})
    assert settings.inner.password == "hunter2"
    assert "hunter2" not in repr(settings)
    assert "password=..., most=None" in repr(settings)
    assert "password=''" in repr(read())
    assert "hunter2" not in fault("[inner]\npassword = ['hunter2']")


def test_load_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_bytes(b"\xef\xbb\xbf[inner]\nport = 3\n")
    assert load(Root, path, {}, URL).inner.port == 3
    assert load(Root, None, {}, URL).inner.port == 5


YAML = """\
# Everything that YAML has for the same settings
debug: true
inner:
  port: 7
  ratio: 2
  names: [a, "b"]
  mode: fast
  table: {one: 1}
  most:
bounds:
"""


def read_as_yaml(text: str | bytes, environ: Mapping[str, str] | None = None) -> Root:
    data = text.encode() if isinstance(text, str) else text
    return parse(Root, data, environ or {}, URL, place="f.yml", reader=read_yaml)


def test_yaml_says_the_same_as_toml() -> None:
    toml = "debug = true\n[inner]\nport = 7\nratio = 2\nnames = ['a', 'b']\nmode = 'fast'\ntable = {one = 1}"
    assert read_as_yaml(YAML) == read(toml)


def test_environment_wins_over_yaml() -> None:
    settings = read_as_yaml(YAML, {"FAIRLEAD_INNER__PORT": "2", "FAIRLEAD_DEBUG": "false"})
    assert (settings.inner.port, settings.debug) == (2, False)


@pytest.mark.parametrize("text", ["", "# nothing\n", "inner:\n", "inner:\n  port:\nbounds: {}\n"])
def test_nothing_behind_a_yaml_key_means_unset(text: str) -> None:
    assert read_as_yaml(text) == read()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("inner:\n  prot: 1", "f.yml: unknown key inner.prot; the nearest known one is inner.port"),
        ("inner:\n  prot:", "f.yml: unknown key inner.prot; the nearest known one is inner.port"),
        ("1: 2", "f.yml: unknown key 1; the nearest known one is "),
        ("inner: 1", "f.yml: inner: must be a table"),
        ("inner:\n  mode: on", "f.yml: inner.mode: must be 'slow' or 'fast'"),
        ("inner:\n  port: '1'", "f.yml: inner.port: expected int, got str"),
        ("inner:\n  names: [2024-01-01]", "f.yml: inner.names: expected str, got date, at [0]"),
        ("- inner", "f.yml: must be a table of keys"),
        ("inner", "f.yml: must be a table of keys"),
        ("inner:\n  port: 1\n  port: 2", "f.yml: port is there twice (at line 3, column 3)"),
        ("debug: true\ndebug: true", "f.yml: debug is there twice (at line 2, column 1)"),
        ("inner: [1", "f.yml: expected ',' or ']', but got '<stream end>' (at line 1, column 10)"),
        ("inner:\n\tport: 1", "f.yml: found character '\\t' that cannot start any token (at line 2, column 1)"),
        ("a: 1\n---\nb: 1", "f.yml: but found another document (at line 2, column 1)"),
        ("a: \x00", 'f.yml: unacceptable character #x0000: special characters are not allowed in "<unicode'),
        ("a: !!python/object/apply:os.abort []", "f.yml: could not determine a constructor for the tag"),
        ("inner: &inner {table: *inner}", "f.yml: inner.table: expected int, got object, at [...]"),
        ("a: !!timestamp b", "f.yml: a value is not what its tag says"),
        ("debug: !!bool b", "f.yml: a value is not what its tag says"),
        ('inner:\n  mode: "\\ud800"', "f.yml: inner.mode: not Unicode"),
        (b"# \xff", "f.yml: not UTF-8 (at byte 2)"),
    ],
)
def test_fault_in_yaml_is_one_line_like_another(text: str | bytes, fault: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_as_yaml(text)
    assert str(caught.value).startswith(fault)
    assert "\n" not in str(caught.value)


def test_a_yaml_table_that_is_there_in_very_many_places_is_looked_at_once() -> None:
    lines = [f"a{number}: &a{number} {{b: *a{number - 1}, c: *a{number - 1}}}" for number in range(1, 60)]
    with pytest.raises(SettingsError, match="unknown key a0"):
        read_as_yaml("\n".join(["a0: &a0 {b: 1}", *lines]))


def test_load_reads_yaml_by_the_name_of_the_file(tmp_path: Path) -> None:
    for name in ("s.yml", "s.yaml"):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbfinner: {port: 3}\n")
        assert load(Root, tmp_path / name, {}, URL).inner.port == 3


class Shared(Section, frozen=True):
    host: Host = "127.0.0.1"
    uds: File = ""
    proxies: Networks = ()


@pytest.mark.parametrize(
    "good", [{"host": "::1"}, {"host": "häfen.example"}, {"uds": "/run/f.sock"}, {"proxies": ("::1", "10.0.0.0/8")}]
)
def test_shared_rules_take_what_there_is(good: dict[str, str]) -> None:
    Shared(**good)  # type: ignore[arg-type]  # one of several types


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"host": ""}, 'host: must not be empty; "0.0.0.0" is every IPv4 address'),
        ({"host": "a b"}, "host: neither an address nor the name of a host: 'a b'"),
        ({"host": "a..b"}, "host: neither an address nor the name of a host: 'a..b'"),
        ({"uds": "a\0b"}, "uds: a file's name holds no NUL"),
        ({"proxies": ("10.0.0.0/33",)}, "proxies: must be an address or a network such as 10.0.0.0/8: "),
    ],
)
def test_shared_rules_refuse_the_rest(bad: dict[str, str], text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Shared(**bad)  # type: ignore[arg-type]  # one of several types
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("url", ["", "memory", "://", "http://[", "hunter2"])
def test_broker_that_is_no_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsError, match=r'^url: must be a URL such as "memory://"$'):
        BrokerSettings(url=url)


def test_load_names_the_file_it_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    with pytest.raises(SettingsError, match=f"^cannot read {path}: No such file or directory$"):
        load(Root, path, {}, URL)


def test_variable_is_made_from_the_key() -> None:
    assert variable("inner.is_on") == "FAIRLEAD_INNER__IS_ON"


def test_broken_json_list_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="truncated"):
        split_list('["a"')
