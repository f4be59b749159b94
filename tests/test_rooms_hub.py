"""Membership, and the one write per member."""

import logging
import os
import random
import weakref
from collections.abc import Sequence
from functools import cached_property

import pytest

from fairlead.dialects import Dialect
from fairlead.dialects.fairlead import FAIRLEAD
from fairlead.dialects.plain import PLAIN, PlainDialect
from fairlead.errors import CloseCode
from fairlead.message import PAYLOAD, Burst, Form, Message, Publication
from fairlead.rooms.hub import Hub
from fairlead.rooms.names import RoomKey, room_key
from fairlead.testing import FakeConnection, FakeMember, RecordingTransport
from fairlead.wire.deflate import shared_deflate
from fairlead.wire.frames import PLAIN as WIRE

LOBBY, CAR = room_key("lobby"), room_key({"car": 1})


def member(name: str = "c1", *, tail: bytes = b"", form: Form = PAYLOAD, dialect: Dialect | None = None) -> FakeMember:
    return FakeMember(
        RecordingTransport(form=form), tail=tail, dialect=dialect or PLAIN, connection=FakeConnection(name)
    )


def recorder(member: FakeMember) -> RecordingTransport:
    assert isinstance(member.transport, RecordingTransport)
    return member.transport


def payloads(member: FakeMember) -> list[bytes]:
    return recorder(member).payloads


def publish(hub: Hub, *data: bytes, room: RoomKey = LOBBY) -> None:
    for each in data:
        hub.publish(room, Publication(data=each))


class CountingForm:
    """A wire form that counts how often it encodes."""

    shared = True

    def __init__(self) -> None:
        self.encoded: list[bytes] = []

    def encode(self, payload: bytes, *, binary: bool) -> bytes:
        self.encoded.append(payload)
        return payload

    def prefix(self, size: int, *, binary: bool) -> bytes | None:
        return None


class WritingTransport(RecordingTransport):
    """Asks for the wire bytes, as a transport that writes them does."""

    def send(self, outgoing: Message | Burst) -> bool:
        outgoing.wire(self.form)
        return super().send(outgoing)


class CountingDialect(PlainDialect):
    """Counts heads."""

    def __init__(self) -> None:
        self.heads = 0

    def head(self, room: RoomKey, publication: Publication) -> bytes:
        self.heads += 1
        return super().head(room, publication)


class Pipe(RecordingTransport):
    """A transport with an outlet: a pipe."""

    def __init__(self, form: Form = WIRE) -> None:
        super().__init__(form=form)
        self._end, self.outlet = os.pipe()
        os.set_blocking(self.outlet, False)
        os.set_blocking(self._end, False)
        for descriptor in (self._end, self.outlet):
            weakref.finalize(self, os.close, descriptor)
        self.rests: list[tuple[bytes, int]] = []

    def write_rest(self, data: bytes, taken: int) -> None:
        if self.failure is not None:
            raise self.failure
        self.rests.append((data, taken))

    @cached_property
    def written(self) -> bytes:
        """What went through the outlet."""
        try:
            return os.read(self._end, 2**20)
        except BlockingIOError:
            return b""


def distinct(members: list[FakeMember]) -> int:
    """How many different objects all of them were sent."""
    return len({id(outgoing) for each in members for outgoing in recorder(each).sent})


class TestMembership:
    def test_first_in_and_last_out_are_told_apart(self) -> None:
        hub, one, two = Hub(), member(), member()
        assert [hub.add(one, LOBBY), hub.add(two, LOBBY)] == [True, False]
        assert [hub.remove(one, LOBBY), hub.remove(two, LOBBY)] == [False, True]
        assert hub.add(two, LOBBY)

    def test_joining_twice_counts_once(self) -> None:
        hub, one = Hub(), member()
        assert hub.add(one, LOBBY)
        assert not hub.add(one, LOBBY)
        assert hub.count(LOBBY) == 1
        hub.add(member(), LOBBY)
        assert not hub.add(one, LOBBY)
        assert hub.count(LOBBY) == 2

    def test_removing_who_is_not_in_does_nothing(self) -> None:
        hub, one, stranger = Hub(), member(), member()
        assert not hub.remove(stranger, LOBBY)
        hub.add(one, LOBBY)
        assert not hub.remove(stranger, LOBBY)
        hub.add(member(), LOBBY)
        assert not hub.remove(stranger, LOBBY)
        assert not hub.remove(member(form=CountingForm()), LOBBY)
        assert hub.count(LOBBY) == 2

    def test_an_empty_room_is_gone(self) -> None:
        hub, one, two = Hub(), member(), member(form=CountingForm())
        hub.add(one, LOBBY)
        hub.add(two, LOBBY)
        assert LOBBY in hub and len(hub) == 1
        hub.remove(one, LOBBY)
        hub.remove(two, LOBBY)
        assert LOBBY not in hub and len(hub) == 0 and hub.count(LOBBY) == 0

    def test_rooms_are_listed_with_their_counts(self) -> None:
        hub, one = Hub(), member()
        for room, joining in ((LOBBY, one), (CAR, one), (CAR, member())):
            hub.add(joining, room)
        assert dict(hub.rooms()) == {LOBBY: 1, CAR: 2}

    def test_two_subscriptions_of_one_connection_are_two_members(self) -> None:
        hub, transport = Hub(), RecordingTransport()
        for tail in (b"1", b"2"):
            hub.add(FakeMember(transport, tail=tail), LOBBY)
        publish(hub, b"x")
        hub.flush()
        assert sorted(transport.payloads) == [b"x1", b"x2"]

    def test_random_changes_agree_with_sets(self) -> None:
        rng = random.Random(4)
        hub, rooms = Hub(), [LOBBY, CAR]
        forms: list[Form] = [PAYLOAD, CountingForm()]
        everybody = [member(form=rng.choice(forms)) for _ in range(6)]
        model: dict[RoomKey, set[FakeMember]] = {room: set() for room in rooms}
        for _ in range(2000):
            who, room = rng.choice(everybody), rng.choice(rooms)
            inside = model[room]
            if rng.random() < 0.5:
                assert hub.add(who, room) == (not inside)
                inside.add(who)
            else:
                assert hub.remove(who, room) == (inside == {who})
                inside.discard(who)
            assert dict(hub.rooms()) == {room: len(model[room]) for room in rooms if model[room]}
            assert [hub.has(each, room) for each in everybody] == [each in inside for each in everybody]


class TestPublish:
    def test_asks_for_a_flush_for_the_first_waiting_publication_anywhere(self) -> None:
        hub = Hub()
        hub.add(member(), LOBBY)
        hub.add(member(), CAR)
        publication = Publication(data=b"x")
        assert [hub.publish(room, publication) for room in (LOBBY, LOBBY, CAR)] == [True, False, False]
        hub.flush()
        assert hub.publish(CAR, publication)

    def test_to_an_empty_room_does_nothing(self) -> None:
        hub, one = Hub(), member()
        assert not hub.publish(LOBBY, Publication(data=b"x"))
        hub.add(one, LOBBY)
        hub.flush()
        assert payloads(one) == []

    def test_nothing_is_sent_before_the_flush(self) -> None:
        hub, one = Hub(), member()
        hub.add(one, LOBBY)
        publish(hub, b"x")
        assert payloads(one) == []
        hub.flush()
        assert payloads(one) == [b"x"]
        hub.flush()
        assert payloads(one) == [b"x"]

    def test_one_publication_is_a_message_and_several_are_one_burst(self) -> None:
        hub, members = Hub(), [member(), member()]
        for each in members:
            hub.add(each, LOBBY)
        publish(hub, b"1")
        hub.flush()
        publish(hub, b"2", b"3", b"4")
        hub.flush()
        for each in members:
            sent = recorder(each).sent
            assert [type(outgoing) for outgoing in sent] == [Message, Burst]
            assert payloads(each) == [b"1", b"2", b"3", b"4"]

    def test_a_room_can_be_flushed_alone(self) -> None:
        hub, one = Hub(), member()
        hub.add(one, LOBBY)
        hub.add(one, CAR)
        publish(hub, b"lobby")
        publish(hub, b"car", room=CAR)
        hub.flush(CAR)
        assert payloads(one) == [b"car"]
        hub.flush()
        assert payloads(one) == [b"car", b"lobby"]

    def test_joining_does_not_bring_what_was_published_before(self) -> None:
        hub, one, two = Hub(), member(), member()
        hub.add(one, LOBBY)
        publish(hub, b"before")
        hub.add(two, LOBBY)
        publish(hub, b"after")
        hub.flush()
        assert payloads(one) == [b"before", b"after"]
        assert payloads(two) == [b"after"]

    def test_leaving_does_not_lose_what_was_published_before(self) -> None:
        hub, one, two = Hub(), member(), member()
        hub.add(one, LOBBY)
        hub.add(two, LOBBY)
        publish(hub, b"before")
        hub.remove(one, LOBBY)
        publish(hub, b"after")
        hub.remove(two, LOBBY)
        assert payloads(one) == [b"before"]
        assert payloads(two) == [b"before", b"after"]

    def test_other_rooms_are_not_flushed_by_a_change(self) -> None:
        hub, one = Hub(), member()
        hub.add(one, LOBBY)
        publish(hub, b"x")
        hub.add(member(), CAR)
        assert payloads(one) == []

    def test_deliveries_are_counted(self) -> None:
        hub = Hub()
        for _ in range(3):
            hub.add(member(), LOBBY)
        publish(hub, b"1", b"2")
        hub.flush()
        assert hub.deliveries == 6


class TestBytes:
    def test_members_with_one_tail_share_the_bytes(self) -> None:
        hub, dialect, form = Hub(), CountingDialect(), CountingForm()
        members = [FakeMember(WritingTransport(form=form), tail=b"t", dialect=dialect) for _ in range(10)]
        for each in members:
            hub.add(each, LOBBY)
        publish(hub, b"x")
        hub.flush()
        assert (dialect.heads, distinct(members), form.encoded) == (1, 1, [b"xt"])
        assert all(payloads(each) == [b"xt"] for each in members)

    def test_each_tail_is_spliced_once(self) -> None:
        hub, dialect = Hub(), CountingDialect()
        members = [member(tail=b"%d" % (i % 3), dialect=dialect) for i in range(30)]
        for each in members:
            hub.add(each, LOBBY)
        publish(hub, b"a", b"b")
        hub.flush()
        assert (dialect.heads, distinct(members)) == (2, 3)
        assert all(payloads(each) == [b"a" + each.tail, b"b" + each.tail] for each in members)

    def test_forms_are_encoded_apart_and_each_once(self) -> None:
        hub, dialect, forms = Hub(), CountingDialect(), [CountingForm(), CountingForm()]
        members = [FakeMember(WritingTransport(form=forms[i % 2]), dialect=dialect) for i in range(10)]
        for each in members:
            hub.add(each, LOBBY)
        publish(hub, b"x")
        hub.flush()
        assert [form.encoded for form in forms] == [[b"x"], [b"x"]]
        assert (dialect.heads, distinct(members)) == (1, 1)

    def test_dialects_are_spoken_apart(self) -> None:
        hub, plain, json = Hub(), member(), member(tail=b'"a"', dialect=FAIRLEAD)
        hub.add(plain, LOBBY)
        hub.add(json, LOBBY)
        publish(hub, b"1")
        hub.flush()
        assert payloads(plain) == [b"1"]
        assert payloads(json) == [b'{"type":"publish","room":"lobby","data":1,"requestId":"a"}']

    def test_spliced_bytes_are_not_kept_without_bound(self) -> None:
        hub = Hub()
        members = [member(tail=b"%d" % (i % 10)) for i in range(20)]
        for each in members:
            hub.add(each, LOBBY)
        publish(hub, b"x" * 100_000)
        hub.flush()
        assert 10 < distinct(members) < 20
        assert all(payloads(each) == [b"x" * 100_000 + each.tail] for each in members)

    def test_a_dialect_may_merge_a_burst(self) -> None:
        class Merging(PlainDialect):
            def pack(self, payloads: Sequence[bytes]) -> Sequence[bytes]:
                return [b"+".join(payloads)]

        hub, one = Hub(), member(dialect=Merging())
        hub.add(one, LOBBY)
        publish(hub, b"1", b"2")
        hub.flush()
        assert payloads(one) == [b"1+2"]

    def test_text_and_binary_keep_their_order_in_separate_writes(self) -> None:
        hub, one = Hub(), member()
        hub.add(one, LOBBY)
        for data in (b"1", b"2", b"3"):
            hub.publish(LOBBY, Publication(data=data, kind="binary" if data == b"3" else "text"))
        hub.flush()
        sent = [(message.payload, message.binary) for out in recorder(one).sent for message in out.messages]
        assert sent == [(b"1", False), (b"2", False), (b"3", True)]

    def test_a_burst_is_cut_at_its_size(self) -> None:
        hub, one = Hub(burst_size=4000), member(tail=b"t")
        hub.add(one, LOBBY)
        publish(hub, *[b"%03d" % i * 100 for i in range(40)])
        hub.flush()
        sizes = [len(outgoing.wire(PAYLOAD)) for outgoing in recorder(one).sent]
        assert len(sizes) > 1 and max(sizes) <= 4000 and min(sizes[:-1]) > 2000
        assert payloads(one) == [b"%03d" % i * 100 + b"t" for i in range(40)]

    def test_one_publication_over_the_burst_size_goes_alone(self) -> None:
        hub, one = Hub(burst_size=1000), member()
        hub.add(one, LOBBY)
        publish(hub, b"1", b"x" * 5000, b"2")
        hub.flush()
        assert [len(outgoing.messages) for outgoing in recorder(one).sent] == [1, 1, 1]
        assert payloads(one) == [b"1", b"x" * 5000, b"2"]


class TestOutlets:
    @pytest.mark.parametrize("form", [WIRE, shared_deflate(12)])
    @pytest.mark.parametrize("size", [1, 120, 123, 124, 130, 1500, 3000, 15_000])
    def test_every_tail_stands_in_a_frame_of_its_own_length(self, form: Form, size: int) -> None:
        hub, pipes, data = Hub(write=os.write), [Pipe(form) for _ in range(6)], b"a" * size
        for i, pipe in enumerate(pipes):
            hub.add(FakeMember(pipe, tail=b"t" * (i // 2)), LOBBY)
        publish(hub, data)
        hub.flush()
        publish(hub, data, b"b")
        hub.flush()
        for i, pipe in enumerate(pipes):
            messages = [each + b"t" * (i // 2) for each in (data, data, b"b")]
            assert pipe.written == b"".join(form.encode(each, binary=False) for each in messages)
            assert pipe.sent == []

    @pytest.mark.parametrize("size", [1, 110, 3000])
    def test_a_dialect_puts_tails_where_it_likes(self, size: int) -> None:
        class Enveloping(PlainDialect):
            def join(self, head: bytes, tail: bytes) -> bytes:
                return b"<%b|%b>" % (tail, head)

        class Shouting(PlainDialect):
            def join(self, head: bytes, tail: bytes) -> bytes:
                return head + tail.upper()

        class Counting(PlainDialect):
            def join(self, head: bytes, tail: bytes) -> bytes:
                return b"%d%b%b" % (len(tail), tail, head)

        class Sparing(PlainDialect):
            def join(self, head: bytes, tail: bytes) -> bytes:
                return head + b"|" + tail if tail else head

        class Choosy(PlainDialect):
            def join(self, head: bytes, tail: bytes) -> bytes:
                if tail.strip(b"t"):
                    raise ValueError("none of mine")
                return head + tail

        for dialect in (Enveloping(), Shouting(), Counting(), Sparing(), Choosy()):
            hub, pipes, data = Hub(write=os.write), [Pipe() for _ in range(6)], b"a" * size
            for i, pipe in enumerate(pipes):
                hub.add(FakeMember(pipe, tail=b"t" * i, dialect=dialect), LOBBY)
            publish(hub, data)
            hub.flush()
            for i, pipe in enumerate(pipes):
                assert pipe.written == WIRE.encode(dialect.join(data, b"t" * i), binary=False)

    def test_a_transport_needs_no_outlet(self) -> None:
        hub, one = Hub(write=os.write), member()
        del recorder(one).outlet
        hub.add(one, LOBBY)
        publish(hub, b"x")
        hub.flush()
        assert payloads(one) == [b"x"]

    def test_binary_messages_have_their_own_heads(self) -> None:
        hub, pipe = Hub(write=os.write), Pipe()
        hub.add(FakeMember(pipe), LOBBY)
        hub.publish(LOBBY, Publication(data=b"x", kind="binary"))
        hub.flush()
        assert pipe.written == WIRE.encode(b"x", binary=True)

    def test_who_has_no_outlet_now_is_sent_the_message(self) -> None:
        hub, pipes = Hub(write=os.write), [Pipe() for _ in range(10)]
        for pipe in pipes:
            hub.add(FakeMember(pipe, tail=b"t"), LOBBY)
        for pipe in pipes[::2]:
            pipe.outlet = None
        publish(hub, b"x")
        hub.flush()
        assert all(pipe.payloads == [b"xt"] and not pipe.written for pipe in pipes[::2])
        assert all(pipe.written == WIRE.encode(b"xt", binary=False) and not pipe.sent for pipe in pipes[1::2])

    def test_without_the_power_to_write_all_is_left_to_the_transport(self) -> None:
        hub, pipe = Hub(), Pipe()
        hub.add(FakeMember(pipe), LOBBY)
        publish(hub, b"x")
        hub.flush()
        assert pipe.rests == [(WIRE.encode(b"x", binary=False), 0)]

    def test_what_the_outlet_does_not_take_is_left_to_the_transport(self) -> None:
        hub, pipes = Hub(burst_size=2**20, write=os.write), [Pipe(), Pipe()]
        for pipe in pipes:
            hub.add(FakeMember(pipe, tail=b"t"), LOBBY)
        sent = WIRE.encode(b"x" * 200_000 + b"t", binary=False)
        publish(hub, b"x" * 200_000)
        hub.flush()
        for pipe in pipes:
            [(whole, taken)] = pipe.rests
            assert whole == sent and pipe.written == sent[:taken] and 0 < taken < len(sent)

    def test_an_outlet_that_takes_nothing_leaves_all_to_the_transport(self) -> None:
        hub, pipe = Hub(write=os.write), Pipe()
        hub.add(FakeMember(pipe), LOBBY)
        assert pipe.outlet is not None
        filled = os.write(pipe.outlet, bytes(2**20))
        publish(hub, b"x")
        hub.flush()
        assert pipe.rests == [(WIRE.encode(b"x", binary=False), 0)]
        assert len(pipe.written) == filled

    def test_a_failing_outlet_is_closed_and_the_others_get_theirs(self, caplog: pytest.LogCaptureFixture) -> None:
        hub, pipes = Hub(write=os.write), [Pipe() for _ in range(10)]
        for i, pipe in enumerate(pipes):
            hub.add(FakeMember(pipe, tail=b"%d" % i), LOBBY)
        assert pipes[4].outlet is not None
        os.write(pipes[4].outlet, bytes(2**20))
        pipes[4].failure = RuntimeError("bug")
        publish(hub, b"x")
        hub.flush()
        assert [pipe.written[2:] for i, pipe in enumerate(pipes) if i != 4] == [b"x%d" % i for i in range(10) if i != 4]
        assert [pipe.code for pipe in pipes] == [CloseCode.INTERNAL_ERROR if i == 4 else None for i in range(10)]
        assert len(caplog.records) == 1


class TestExclude:
    def test_the_excluded_connection_gets_the_rest_in_order(self) -> None:
        hub = Hub()
        members = [member(f"c{i}", tail=b"t") for i in range(5)]
        for each in members:
            hub.add(each, LOBBY)
        for data, exclude in ((b"1", None), (b"2", "c0"), (b"3", None), (b"4", "c1")):
            hub.publish(LOBBY, Publication(data=data, exclude=exclude))
        hub.flush()
        assert payloads(members[0]) == [b"1t", b"3t", b"4t"]
        assert payloads(members[1]) == [b"1t", b"2t", b"3t"]
        assert all(payloads(each) == [b"1t", b"2t", b"3t", b"4t"] for each in members[2:])

    def test_all_subscriptions_of_the_connection_are_excluded(self) -> None:
        hub = Hub()
        mine, others = [member("me"), member("me")], [member("you")]
        for each in mine + others:
            hub.add(each, LOBBY)
        hub.publish(LOBBY, Publication(data=b"x", exclude="me"))
        hub.flush()
        assert [payloads(each) for each in mine + others] == [[], [], [b"x"]]
        assert recorder(mine[0]).sent == []

    def test_alone_in_the_room(self) -> None:
        hub, one = Hub(), member("me")
        hub.add(one, LOBBY)
        hub.publish(LOBBY, Publication(data=b"x", exclude="me"))
        hub.flush()
        assert recorder(one).sent == []


class TestFailures:
    def test_a_failing_transport_is_closed_and_the_others_get_theirs(self, caplog: pytest.LogCaptureFixture) -> None:
        hub, members = Hub(), [member(f"c{i}") for i in range(20)]
        for each in members:
            hub.add(each, LOBBY)
        bad = members[::3]
        for each in bad:
            recorder(each).failure = RuntimeError("bug")
        publish(hub, b"x")
        hub.flush()
        assert all(payloads(each) == [b"x"] for each in members if each not in bad)
        assert all(recorder(each).code == CloseCode.INTERNAL_ERROR for each in bad)
        logged = sorted(record.getMessage() for record in caplog.records)
        assert logged == sorted(f"connection {each.connection.id}: sending failed" for each in bad)

    def test_a_transport_that_cannot_even_be_closed_harms_nobody(self, caplog: pytest.LogCaptureFixture) -> None:
        class Broken(RecordingTransport):
            def send(self, outgoing: Message | Burst) -> bool:
                raise RuntimeError("send")

            def close(self, code: int = 1000, reason: str = "") -> None:
                raise RuntimeError("close")

        hub, others = Hub(), [member() for _ in range(10)]
        for each in [*others, FakeMember(Broken())]:
            hub.add(each, LOBBY)
        publish(hub, b"x")
        hub.flush()
        assert all(payloads(each) == [b"x"] for each in others)
        assert len(caplog.records) == 1

    def test_a_publication_that_cannot_be_encoded_is_dropped_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        class Choosy(PlainDialect):
            def head(self, room: RoomKey, publication: Publication) -> bytes:
                return str(int(publication.data)).encode()

        hub, one, other = Hub(), member(dialect=Choosy()), member()
        for room in (LOBBY, CAR):
            hub.add(one, room)
            hub.add(other, room)
            publish(hub, b"1", b"x", b"2", room=room)
        with caplog.at_level(logging.ERROR):
            hub.flush()
        assert payloads(one) == [b"1", b"2"] * 2
        assert payloads(other) == [b"1", b"x", b"2"] * 2
        assert len(caplog.records) == 2

    def test_a_member_that_leaves_from_inside_send_harms_nobody(self) -> None:
        hub = Hub()

        class Leaving(RecordingTransport):
            def send(self, outgoing: Message | Burst) -> bool:
                hub.remove(leaving, LOBBY)
                return True

        leaving = FakeMember(Leaving())
        others = [member() for _ in range(10)]
        for each in [*others, leaving]:
            hub.add(each, LOBBY)
        publish(hub, b"x")
        hub.flush()
        assert all(payloads(each) == [b"x"] for each in others)
        assert hub.count(LOBBY) == 10

    def test_publishing_from_inside_send_waits_for_the_next_flush(self) -> None:
        hub = Hub()

        class Echo(RecordingTransport):
            def send(self, outgoing: Message | Burst) -> bool:
                taken = super().send(outgoing)
                assert hub.publish(LOBBY, Publication(data=b"again")) == (len(self.sent) == 1)
                return taken

        echo = FakeMember(Echo())
        hub.add(echo, LOBBY)
        publish(hub, b"x")
        hub.flush()
        assert payloads(echo) == [b"x"]
        hub.flush()
        assert payloads(echo) == [b"x", b"again"]
