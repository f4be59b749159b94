"""Which names are rooms, which are one room, and who may join which."""

import enum
import random
import sys
from types import MappingProxyType

import msgspec
import pytest

from fairlead.errors import InvalidRoom
from fairlead.rooms.names import Grants, RoomKey, room_json, room_key


def parsed(text: str) -> RoomKey:
    """The key of a room as a client or the API sends it: JSON text through the decoder that they go through."""
    return room_key(msgspec.json.decode(text))


class TestRoomKey:
    @pytest.mark.parametrize(
        "name", ["lobby", "a b", "*", "x*", "[1]", "1", "null", "é", "😀", "{", "{a}", '{"a":1', "'"]
    )
    def test_string_is_its_own_key(self, name: str) -> None:
        assert room_key(name) == name

    def test_object_is_its_json_text_sorted_without_spaces(self) -> None:
        assert room_key({"target": "car", "car": 1}) == '{"car":1,"target":"car"}'

    def test_names_are_sorted_by_code_point(self) -> None:
        # U+FF5E stands before U+1F600, though UTF-16 sorts them the other way round.
        assert room_key({"😀": 1, "～": 2, "z": 3, "Z": 4}) == '{"Z":4,"z":3,"～":2,"😀":1}'

    def test_text_is_escaped_only_where_json_must(self) -> None:
        assert room_key({"a": 'é"\\/\u2028'}) == '{"a":"é\\"\\\\/\u2028"}'

    def test_empty_object_is_a_room(self) -> None:
        assert room_key({}) == "{}"

    def test_types_make_different_rooms(self) -> None:
        values: list[object] = [1, "1", True, "true", None, "null", 0, False, ""]
        assert len({room_key({"a": value}) for value in values}) == len(values)

    def test_order_of_names_does_not_matter(self) -> None:
        assert room_key({"a": 1, "b": 2}) == room_key({"b": 2, "a": 1})

    def test_other_mappings_are_objects(self) -> None:
        assert room_key(MappingProxyType({"b": 1, "a": 2})) == '{"a":2,"b":1}'

    def test_no_unicode_normalisation(self) -> None:
        assert room_key("é") != room_key("e\u0301")

    def test_subclasses_of_str_and_int_count_as_what_they_hold(self) -> None:
        class Safe(str):
            pass

        class Colour(enum.IntEnum):
            RED = 1

        class Number(int):
            pass

        assert room_key({Safe("a"): Safe("b"), "c": Colour.RED, "d": Number(2)}) == '{"a":"b","c":1,"d":2}'
        assert room_json(room_key(Safe("x"))) == b'"x"'

    @pytest.mark.parametrize("integer", [0, -1, 2**63 - 1, -(2**63)])
    def test_integers_have_64_bits(self, integer: int) -> None:
        assert room_key({"a": integer}) == f'{{"a":{integer}}}'

    @pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**30, 1.0, 0.5, float("nan"), [], {}, (), b"x", object()])
    def test_other_values_are_refused(self, value: object) -> None:
        with pytest.raises(InvalidRoom, match="64-bit integers"):
            room_key({"a": value})

    @pytest.mark.parametrize("value", [None, 1, 1.5, True, [], ["a"], b"room", ("a",)])
    def test_other_rooms_are_refused(self, value: object) -> None:
        with pytest.raises(InvalidRoom, match="string or a flat object"):
            room_key(value)

    @pytest.mark.parametrize("value", ["", {"": 1}, {1: 1}, {None: 1}])
    def test_empty_names_and_names_that_are_no_strings_are_refused(self, value: object) -> None:
        with pytest.raises(InvalidRoom, match="not empty"):
            room_key(value)

    @pytest.mark.parametrize("bad", ["\x00", "\n", "\x1f", "\x7f", "\x80", "\x9f", "\ud800", "\udfff"])
    def test_control_characters_and_lone_surrogates_are_refused(self, bad: str) -> None:
        for value in (f"a{bad}", {f"a{bad}": 1}, {"a": f"a{bad}"}):
            with pytest.raises(InvalidRoom, match="control characters"):
                room_key(value)

    def test_size_is_counted_in_bytes_of_the_key(self) -> None:
        assert room_key("é" * 256)
        assert room_key({"a": "x" * 504})
        for value in ("é" * 256 + "x", "x" * 513, {"a": "x" * 505}, {"a": "é" * 253}):
            with pytest.raises(InvalidRoom, match="at most 512 bytes"):
                room_key(value)

    def test_size_can_be_set(self) -> None:
        assert room_key("abc", size=3) == "abc"
        with pytest.raises(InvalidRoom, match="at most 2 bytes"):
            room_key("abc", size=2)

    def test_error_does_not_quote_what_was_sent(self) -> None:
        with pytest.raises(InvalidRoom) as info:
            room_key("<script>\n")
        assert "script" not in str(info.value)


class TestStringsThatAreObjects:
    @pytest.mark.parametrize(
        "text", ['{"b":2,"a":1}', ' { "a" : 1,\n\t"b" : 2 } ', '{"a":0,"b":2,"a":1}', '{"\\u0061":1,"b":2}']
    )
    def test_json_text_of_an_object_names_that_object(self, text: str) -> None:
        assert room_key(text) == room_key({"a": 1, "b": 2})

    def test_white_space_does_not_count_for_the_size(self) -> None:
        assert room_key('{"a":1}' + " " * 1000) == '{"a":1}'

    @pytest.mark.parametrize(
        "text",
        [
            '{"a":1.0}',
            '{"a":1e2}',
            '{"a":1e999}',
            '{"a":9223372036854775808}',
            '{"a":' + "1" * 5000 + "}",
            '{"a":[]}',
            '{"a":{}}',
            '{"":1}',
            '{"a":"\\n"}',
            '{"a":"\\u0000"}',
            '{"a":"\\ud800"}',
            '{"a":"\ud800"}',
            '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
        ],
    )
    def test_the_object_must_be_a_room(self, text: str) -> None:
        with pytest.raises(InvalidRoom):
            room_key(text)

    @pytest.mark.parametrize("text", [' {"a":1', "{'a':1}", '{"a":1}x', '{"a":01}', " 1e999", " [1]", '"{}"'])
    def test_what_is_no_object_is_a_string(self, text: str) -> None:
        assert room_key(text) == text
        assert room_json(room_key(text)) == msgspec.json.encode(text)


class TestRawJson:
    """The rules hold from the bytes on: nothing that the decoder does softens them."""

    @pytest.mark.parametrize(
        "text", ['{"a":1.0}', '{"a":1e2}', '{"a":-0.0}', '{"a":9223372036854775808}', '{"a":"\\u001f"}']
    )
    def test_refused(self, text: str) -> None:
        with pytest.raises(InvalidRoom):
            parsed(text)

    def test_last_duplicate_wins_even_over_an_invalid_one(self) -> None:
        assert parsed('{"a":1.5,"a":1}') == room_key({"a": 1})

    def test_negative_zero_is_zero(self) -> None:
        assert parsed('{"a":-0}') == room_key({"a": 0})

    def test_escapes_do_not_matter(self) -> None:
        assert parsed('{"a":"\\u00e9\\ud83d\\ude00"}') == room_key({"a": "é😀"})


def random_room(rng: random.Random) -> object:
    """Rooms that are easily confused: few names, few values, quotes, braces, backslashes."""
    pieces = ["a", "b", '"', "\\", "{", "}", ":", ",", "1", "*", " ", "é", "true"]

    def text() -> str:
        return "".join(rng.choices(pieces, k=rng.randrange(1, 4)))

    if rng.random() < 0.3:
        name = text()
        return {} if name.strip() == "{}" else name
    values: list[object] = [text(), text(), 1, 0, -1, True, False, None, "1", "true", ""]
    return {text(): rng.choice(values) for _ in range(rng.randrange(3))}


def typed(room: object) -> object:
    """A form in which rooms are equal exactly if they mean one room, made without the code under test."""
    if isinstance(room, dict):
        return frozenset((name, type(value), value) for name, value in room.items())
    return room


def test_two_rooms_have_one_key_exactly_if_they_are_one() -> None:
    rng = random.Random(1)
    keys: dict[str, object] = {}
    for _ in range(3000):
        room = random_room(rng)
        assert keys.setdefault(room_key(room), typed(room)) == typed(room)
    assert len(keys) == len(set(keys.values()))


def test_a_key_and_its_json_name_the_same_room() -> None:
    rng = random.Random(2)
    for _ in range(1000):
        room = random_room(rng)
        key = room_key(room)
        assert room_key(key) == key
        assert msgspec.json.decode(room_json(key)) == room
        assert parsed(room_json(key).decode()) == key


class TestGrants:
    def test_nothing_is_allowed_by_default(self) -> None:
        assert not Grants().allows(room_key("a"))
        assert not Grants().allows(room_key({}))

    def test_exact_rooms(self) -> None:
        grants = Grants(["a", {"t": "car", "id": 1}, {}])
        assert all(grants.allows(room_key(room)) for room in ("a", {"id": 1, "t": "car"}, {}, '{"id":1,"t":"car"}'))
        for room in ("b", "aa", "a ", {"t": "car", "id": 2}, {"t": "car"}, {"t": "car", "id": 1, "x": 1}):
            assert not grants.allows(room_key(room))

    def test_part_of_a_granted_name_is_not_granted(self) -> None:
        grants = Grants(["abc", "def"])
        assert not any(grants.allows(room_key(room)) for room in ("ab", "bc", "b", "abcdef", "def "))

    @pytest.mark.parametrize(
        "granted, asked", [(1, True), (1, "1"), (True, "true"), (0, False), (None, "null"), (0, "")]
    )
    def test_types_are_strict(self, granted: object, asked: object) -> None:
        for star in ({}, {"x": "*"}):
            room = {name: "x" for name in star}
            assert Grants([{"a": granted, **star}]).allows(room_key({"a": granted, **room}))
            assert not Grants([{"a": granted, **star}]).allows(room_key({"a": asked, **room}))
            assert not Grants([{"a": asked, **star}]).allows(room_key({"a": granted, **room}))

    @pytest.mark.parametrize("value", [1, "1", "*", "", True, None, 'x","y'])
    def test_star_stands_for_any_value(self, value: object) -> None:
        assert Grants([{"t": "car", "id": "*"}]).allows(room_key({"t": "car", "id": value}))

    def test_star_needs_the_same_names(self) -> None:
        grants = Grants([{"a": "*", "b": "*"}])
        for room in ({"a": 1}, {}, {"a": 1, "b": 1, "c": 1}, {"a": 1, "c": 1}):
            assert not grants.allows(room_key(room))

    def test_two_grants_do_not_add_up(self) -> None:
        grants = Grants([{"a": 1, "b": "*"}, {"a": "*", "b": 2}])
        assert grants.allows(room_key({"a": 1, "b": 5}))
        assert not grants.allows(room_key({"a": 5, "b": 5}))

    def test_asking_for_the_literal_star_needs_a_star(self) -> None:
        assert not Grants([{"a": 1}]).allows(room_key({"a": "*"}))
        assert Grants([{"a": "*"}]).allows(room_key({"a": "*"}))

    @pytest.mark.parametrize("granted", ["*", "a*", {"a": "x*"}, {"*": 1}, {"a": "**"}])
    def test_a_star_elsewhere_is_a_character(self, granted: object) -> None:
        grants = Grants([granted])
        assert grants.allows(room_key(granted))
        for room in ("a", "ab", "b", {"a": "xy"}, {"a": 1}, {"b": 1}):
            assert not grants.allows(room_key(room))

    def test_a_string_that_is_an_object_is_a_pattern_too(self) -> None:
        assert Grants(['{"a": "*"}']).allows(room_key({"a": 1}))

    def test_prefixes(self) -> None:
        grants = Grants([], ["news:", "é"])
        assert all(grants.allows(room_key(room)) for room in ("news:", "news:x", "éa"))
        assert not any(grants.allows(room_key(room)) for room in ("news", "xnews:", "News:x"))

    @pytest.mark.parametrize("prefix", ["", "{", '{"', '{"a":'])
    def test_prefixes_never_match_objects(self, prefix: str) -> None:
        grants = Grants([], [prefix])
        assert not grants.allows(room_key({"a": 1}))
        assert not grants.allows(room_key('{"a":1}'))
        assert not grants.allows(room_key({}))
        assert grants.allows(room_key('{"a":'))

    def test_objects_never_match_strings(self) -> None:
        assert not Grants([{"a": "*"}]).allows(room_key("a"))

    def test_many_grants_are_looked_up_in_a_set_and_mean_the_same(self) -> None:
        rooms: list[object] = [f"room:{i}" for i in range(1000)]
        grants = Grants([*rooms, {"a": "*"}, {"b": 1}])
        assert all(grants.allows(room_key(room)) for room in [*rooms, {"a": 1}, {"b": 1}])
        assert not any(grants.allows(room_key(room)) for room in ("room:", "room:1000", {"b": 2}))

    @pytest.mark.parametrize("room", ["", 1, None, {"a": 1.5}, {"a": []}, "a\n", "x" * 513])
    def test_what_is_no_room_is_no_grant(self, room: object) -> None:
        with pytest.raises(InvalidRoom):
            Grants([room])

    @pytest.mark.parametrize("prefix", [1, None, {}, "a\n", "\ud800", "é" * 257])
    def test_what_is_no_string_is_no_prefix(self, prefix: object) -> None:
        with pytest.raises(InvalidRoom):
            Grants([], [prefix])  # type: ignore[list-item]  # what the API may send

    def test_size_can_be_set(self) -> None:
        assert Grants(["abcd"], ["abcd"], size=4).allows(room_key("abcd"))
        with pytest.raises(InvalidRoom):
            Grants([], ["abcde"], size=4)

    def test_a_look_reads_the_room_asked_for_and_not_all_patterns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        grants = Grants([{"t": "car", "id": i, "part": "*"} for i in range(1000)])
        read: list[str] = []

        def decode(text: str) -> object:
            read.append(text)
            return msgspec.json.decode(text)

        monkeypatch.setattr("fairlead.rooms.names._decode", decode)
        room = room_key({"t": "car", "id": 999, "part": 7})
        assert grants.allows(room)
        assert read == [room]

    def test_random_grants_agree_with_the_rule_said_plainly(self) -> None:
        def allowed(granted: object, asked: object) -> bool:
            if isinstance(granted, dict) and isinstance(asked, dict):
                return granted.keys() == asked.keys() and all(
                    value == "*" or typed({"": value}) == typed({"": asked[name]}) for name, value in granted.items()
                )
            return type(granted) is type(asked) and granted == asked

        rng = random.Random(3)
        rooms = [random_room(rng) for _ in range(60)] + [
            {"a": "*"},
            {"a": 1},
            {"b": "*", "a": "*"},
            {"a": True, "b": 0},
        ]
        grants = [Grants([room]) for room in rooms]
        for room, grant in zip(rooms, grants, strict=True):
            for asked in rooms:
                assert grant.allows(room_key(asked)) == allowed(room, asked), (room, asked)
        together = Grants(rooms)
        for asked in rooms + [random_room(rng) for _ in range(200)]:
            assert together.allows(room_key(asked)) == any(allowed(room, asked) for room in rooms), asked

    def test_ten_grants_take_under_600_bytes(self) -> None:
        grants = Grants([{"target": "car", "car": 1000 + i} for i in range(10)], ["news:"])
        held = [getattr(grants, name) for name in Grants.__slots__]
        assert sys.getsizeof(grants) + sum(map(sys.getsizeof, held)) < 600
