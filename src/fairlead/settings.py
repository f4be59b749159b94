"""Settings: a TOML or YAML file, overlaid by environment variables, overlaid by flags, become checked frozen structs.

A settings type is a Section whose keys hold values or sections again; a plain dataclass serves as a section too. The
key ``port`` of the section ``server`` is ``server.port`` everywhere: in the file, in overrides, in every error text;
its variable is ``FAIRLEAD_SERVER__PORT``.

* In a variable a list is comma separated or a JSON list, a table is a JSON object, and nothing at all means unset; so
  does nothing behind a key in YAML.
* An unknown key is an error that names the nearest known one, and so is an unknown ``FAIRLEAD_`` variable with a
  double underscore in it. Those without one are left alone: Kubernetes sets FAIRLEAD_PORT and the like by itself for
  a service called fairlead.
* Every error is a SettingsError of one line. It names the key and where its value came from, and never shows the
  value of a SECRET key.

Everything but ``load()``, which reads the file, is pure.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import ipaddress
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec

from fairlead.errors import SettingsError

if TYPE_CHECKING:
    import yaml

SECRET: Final = "secret"
"""Marks a key whose value no text may show: ``Annotated[str, SECRET]``."""

_PREFIX: Final = "FAIRLEAD_"

T = TypeVar("T")

Reader = Callable[[str], object]
"""Turns a file's text into a table; raises ValueError, whose text is one line, for what is none."""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A group of keys. A function in a key's ``Annotated`` is its rule: it takes the value and raises ValueError.

    The rules hold however the section is made.

    Raises:
        SettingsError: A rule is broken; the text begins with the key's name.
    """

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            for rule in filter(callable, _marks(hint)):
                try:
                    rule(getattr(self, name))
                except ValueError as exc:
                    raise SettingsError(f"{name}: {exc}") from None

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={self._show(name, hint)}" for name, hint in _hints(type(self)).items())
        return f"{type(self).__name__}({shown})"

    def _show(self, name: str, hint: object) -> str:
        value: object = getattr(self, name)
        return "..." if value and SECRET in _marks(hint) else repr(value)


def within(low: float, high: float) -> Callable[[float], None]:
    """A rule: a number from ``low`` to ``high``, both included. NaN breaks it."""

    def rule(value: float) -> None:
        if not low <= value <= high:
            raise ValueError(f"must be from {low} to {high}, not {value!r}")

    return rule


def each(rule: Callable[[T], None]) -> Callable[[tuple[T, ...]], None]:
    """A rule: ``rule`` holds for every item."""

    def rule_of_all(values: tuple[T, ...]) -> None:
        for value in values:
            rule(value)

    return rule_of_all


def check_host(value: str) -> None:
    """A rule: an address, or a name that the system's resolver takes."""
    if not value:
        raise ValueError('must not be empty; "0.0.0.0" is every IPv4 address of this machine, "::" every IPv6 one')
    try:
        value.encode("idna")  # as the system's resolver will have it
    except UnicodeError:
        possible = False
    else:
        possible = value.isprintable() and not set(value) & set(" /@[]")
    if not possible:
        raise ValueError(f"neither an address nor the name of a host: {value!r}")


def _file(value: str) -> None:
    if "\0" in value:
        raise ValueError("a file's name holds no NUL")


def _network(value: str) -> None:
    try:
        ipaddress.ip_network(value)
    except ValueError as exc:
        raise ValueError(f"must be an address or a network such as 10.0.0.0/8: {exc}") from None


def _broker(value: str) -> None:
    # Which schemes there are is the brokers' to know. The value may hold a password: no text shows it.
    try:
        scheme = urlsplit(value).scheme
    except ValueError:
        scheme = ""
    if not scheme or "://" not in value:
        raise ValueError('must be a URL such as "memory://"')


Port = Annotated[int, within(0, 65_535)]
Host = Annotated[str, check_host]
File = Annotated[str, _file]
Networks = Annotated[tuple[str, ...], each(_network)]


class ListenerSettings(Section, frozen=True, kw_only=True):
    """Where a server listens.

    Attributes:
        host: Address to listen on; only this machine by default.
        port: 0 takes any free one.
        uds: A Unix socket's path; then host and port are not used.
    """

    host: Host = "127.0.0.1"
    port: Port
    uds: File = ""


class PublicListenerSettings(ListenerSettings, frozen=True, kw_only=True):
    """Where a server listens for everybody.

    Attributes:
        certfile: Certificate chain in PEM; turns TLS on.
        keyfile: Its private key; not needed if certfile holds it.
        trusted_proxies: Addresses and networks whose X-Forwarded-For and X-Forwarded-Proto are believed.
    """

    certfile: File = ""
    keyfile: File = ""
    trusted_proxies: Networks = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keyfile and not self.certfile:
            raise SettingsError("keyfile: of no use without certfile")


class BrokerSettings(Section, frozen=True):
    """What carries publications between processes. ``memory://`` serves one process by itself."""

    url: Annotated[str, _broker, SECRET] = "memory://"


class LogSettings(Section, frozen=True):
    """How much is said on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"


def load(type_: type[T], path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]) -> T:
    """Read and check settings.

    Args:
        type_: The section at the root.
        path: A file in YAML if its name ends in .yml or .yaml, else in TOML; None: there is none.
        environ: The environment; wins over the file.
        overrides: Values by full key (``server.port``), for flags; they win over both. None counts as not given.

    Raises:
        SettingsError: The file cannot be read, or a key is unknown, missing or wrong. Show the text: it is one line.
    """
    if path is None:
        return parse(type_, b"", environ, overrides)
    try:
        file = path.read_bytes()
    except OSError as exc:
        raise SettingsError(f"cannot read {path}: {exc.strerror}") from exc
    reader = read_yaml if path.suffix in (".yml", ".yaml") else tomllib.loads
    return parse(type_, file, environ, overrides, place=str(path), reader=reader)


def parse(
    type_: type[T],
    file: bytes,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    *,
    place: str = "settings",
    reader: Reader = tomllib.loads,
) -> T:
    """As ``load()``, with the file's bytes; ``place`` is what errors call the file."""
    keys, sections = _outline(type_)
    given = {
        **_from_file(_read(file, reader, place), keys, sections, place),
        **_from_environment(environ, keys),
        **_from_overrides(overrides, keys),
    }
    return _build(type_, given)


def variable(key: str) -> str:
    """The name of the environment variable for a full key."""
    return _PREFIX + key.replace(".", "__").upper()


def split_list(text: str) -> list[object]:
    """The items of a list as a variable holds it: comma separated, or a JSON list.

    Raises:
        ValueError: The text begins like a JSON list and is none.
    """
    if text.lstrip().startswith("["):
        return msgspec.json.decode(text, type=list[object])
    return [item for part in text.split(",") if (item := part.strip())]


def read_yaml(text: str) -> object:
    """The content of a YAML document; of an empty one a table without keys.

    Tags that would call Python code are refused, and so is a key that stands twice in one table: the library would let
    the last one win, although keys are unique (YAML 1.2.2, 3.2.1.1).

    Raises:
        ValueError: It is no such document. The text is one line and says where.
    """
    import yaml  # the gateway starts without it

    try:
        if (document := yaml.compose(text, yaml.SafeLoader)) is None:
            return {}
        _refuse_twins(document, set())
        content: object = yaml.safe_load(text)
    except yaml.MarkedYAMLError as exc:
        place = "" if exc.problem_mark is None else _place(exc.problem_mark)
        raise ValueError(f"{exc.problem or exc.context}{place}") from None
    except yaml.YAMLError as exc:
        raise ValueError(" ".join(str(exc).split())) from None
    except (AttributeError, KeyError):  # what the library makes of `!!timestamp x` and `!!bool x`
        raise ValueError("a value is not what its tag says") from None
    return content


def _refuse_twins(table: yaml.Node, looked_at: set[yaml.Node]) -> None:
    if not table.tag.endswith(":map") or table in looked_at:
        return
    looked_at.add(table)  # one anchor may stand in as many places as twenty lines can say, more than time can count
    seen = set()
    for name, value in table.value:
        text = str(name.value)
        if text in seen:
            raise ValueError(f"{text} is there twice{_place(name.start_mark)}")
        seen.add(text)
        _refuse_twins(value, looked_at)


def _place(mark: yaml.Mark) -> str:
    return f" (at line {mark.line + 1}, column {mark.column + 1})"


@dataclasses.dataclass(frozen=True, slots=True)
class _Given:
    """A value and where it came from."""

    place: str
    value: object = dataclasses.field(repr=False)
    lax: bool = False  # text that stands for a number or a truth value


def _read(file: bytes, reader: Reader, place: str) -> dict[object, object]:
    try:
        table = reader(file.decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        raise SettingsError(f"{place}: not UTF-8 (at byte {exc.start})") from None
    except (ValueError, RecursionError) as exc:
        raise SettingsError(f"{place}: {exc}") from None
    if not isinstance(table, dict):
        raise SettingsError(f"{place}: must be a table of keys")
    return table


def _from_file(
    table: Mapping[object, object], keys: Mapping[str, object], sections: Set[str], place: str
) -> dict[str, _Given]:
    given = {}
    for key, value in _flatten(table, sections):
        if key not in keys and key not in sections:
            known = keys if "." in key else {name for name in (*keys, *sections) if "." not in name}
            raise SettingsError(f"{place}: unknown key {key}; {_nearest(key, known)}")
        if value is None:
            continue
        if key in sections:
            raise SettingsError(f"{place}: {key}: must be a table")
        given[key] = _Given(place, value)
    return given


def _flatten(table: Mapping[object, object], sections: Set[str], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        key = f"{prefix}{name}"  # in YAML a name may be a number or a truth value
        if key in sections and isinstance(value, dict):
            yield from _flatten(value, sections, key + ".")
        else:
            yield key, value


def _from_environment(environ: Mapping[str, str], keys: Mapping[str, object]) -> dict[str, _Given]:
    known = {variable(key): key for key in keys}
    given = {}
    for name, text in environ.items():
        if name in known and text:
            key = known[name]
            given[key] = _Given(name, _decode(text, keys[key], f"{name}: {key}"), lax=True)
        elif name not in known and name.startswith(_PREFIX) and "__" in name:
            raise SettingsError(f"unknown environment variable {name}; {_nearest(name, known)}")
    return given


def _decode(text: str, hint: object, what: str) -> object:
    """A variable's text as a list or a table where the key holds one; ``what`` begins the text of an error."""
    kind = get_origin(_plain(hint))
    try:
        text.encode()
        if kind is tuple:
            return split_list(text)
        return msgspec.json.decode(text) if kind is Mapping else text
    except UnicodeEncodeError:  # bytes of the environment that are not UTF-8 stand in it as lone surrogates
        raise SettingsError(f"{what}: not UTF-8") from None
    except ValueError as exc:
        raise SettingsError(f"{what}: {_words(exc)}") from None


def _from_overrides(overrides: Mapping[str, object], keys: Mapping[str, object]) -> dict[str, _Given]:
    for key in overrides:
        if key not in keys:
            raise SettingsError(f"unknown key {key}; {_nearest(key, keys)}")
    return {key: _Given("command line", value) for key, value in overrides.items() if value is not None}


def _nearest(name: str, known: Iterable[str]) -> str:
    return f"the nearest known one is {difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]}"


def _build(type_: type[T], given: Mapping[str, _Given], prefix: str = "", default: object = None) -> T:
    """Make a section and those within; what is not given comes from ``default``, a section of the same type."""
    hints = _hints(type_)
    values: dict[str, object] = {} if default is None else {name: getattr(default, name) for name in hints}
    for name, parameter in inspect.signature(type_).parameters.items():
        key, section = prefix + name, _section(hints[name])
        start = None if parameter.default is parameter.empty else parameter.default
        if section is not None:
            values[name] = _build(section, given, key + ".", values.get(name, start))
        elif key in given:
            values[name] = _convert(given[key], hints[name], key)
        elif name not in values and parameter.default is parameter.empty:
            raise SettingsError(f"{key}: missing; set it in the file or as {variable(key)}")
    try:
        return type_(**values)
    except SettingsError as exc:
        key = prefix + str(exc).partition(":")[0]
        place = f"{given[key].place}: " if key in given else ""
        raise SettingsError(f"{place}{prefix}{exc}") from None


def _convert(given: _Given, hint: object, key: str) -> object:
    try:
        return msgspec.convert(given.value, hint, strict=not given.lax)
    except UnicodeEncodeError:  # YAML can write lone surrogates
        raise SettingsError(f"{given.place}: {key}: not Unicode") from None
    except msgspec.ValidationError as exc:
        plain = _plain(hint)
        if get_origin(plain) is Literal:
            problem = f"must be {' or '.join(map(repr, get_args(plain)))}"
        else:
            problem = _words(exc)
        raise SettingsError(f"{given.place}: {key}: {problem}") from None


def _words(exc: Exception) -> str:
    """What msgspec says about types, without its signs."""
    return str(exc).replace("`", "").replace("Expected", "expected").replace(" - at $", ", at ")


def _outline(type_: type, prefix: str = "") -> tuple[dict[str, object], set[str]]:
    """All full keys with their types, and the full names of all sections."""
    keys: dict[str, object] = {}
    sections = set()
    for name, hint in _hints(type_).items():
        section = _section(hint)
        if section is None:
            keys[prefix + name] = hint
        else:
            inner_keys, inner_sections = _outline(section, f"{prefix}{name}.")
            keys |= inner_keys
            sections |= {prefix + name, *inner_sections}
    return keys, sections


def _hints(type_: type) -> dict[str, object]:
    return get_type_hints(type_, include_extras=True)


def _marks(hint: object) -> tuple[object, ...]:
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


def _plain(hint: object) -> object:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _section(hint: object) -> type | None:
    if isinstance(hint, type) and (issubclass(hint, Section) or dataclasses.is_dataclass(hint)):
        return hint
    return None
