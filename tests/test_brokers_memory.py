"""The memory broker, the scripted one that tests use in its place, and the URLs that name brokers."""

import pytest
from tests.contracts.broker import ROOM, BrokerContract, RecordingSink

from fairlead.brokers import Broker
from fairlead.brokers.memory import MemoryBroker
from fairlead.brokers.urls import from_url
from fairlead.errors import BrokerUnavailable, SettingsError
from fairlead.message import Publication
from fairlead.testing import ScriptedBroker


class TestMemoryBroker(BrokerContract):
    def make(self) -> Broker:
        return MemoryBroker()

    async def test_publish_has_delivered_when_it_returns(self, broker: Broker, sink: RecordingSink) -> None:
        """So that a batch is published within one turn of the event loop, and written to each member at once."""
        await broker.subscribe(ROOM)
        publishing = broker.publish(ROOM, Publication(data=b"1"))
        with pytest.raises(StopIteration):
            publishing.__await__().__next__()
        assert sink.data(ROOM) == [b"1"]

    async def test_calls_before_the_start_are_refused(self) -> None:
        with pytest.raises(BrokerUnavailable):
            await MemoryBroker().subscribe(ROOM)

    async def test_can_be_started_again_and_remembers_nothing(self, broker: Broker, sink: RecordingSink) -> None:
        await broker.subscribe(ROOM)
        await broker.close()
        await broker.start(sink)
        await broker.publish(ROOM, Publication(data=b"1"))
        assert sink.data(ROOM) == []


class TestScriptedBroker(BrokerContract):
    def make(self) -> Broker:
        return ScriptedBroker()


class TestFromUrl:
    def test_memory(self) -> None:
        assert isinstance(from_url("memory://"), MemoryBroker)

    @pytest.mark.parametrize("url", ["other://user:secret@host", "", "memory", "://secret", "memory:secret"])
    def test_unknown_scheme_is_an_error_that_names_the_known_ones(self, url: str) -> None:
        with pytest.raises(SettingsError, match="memory://") as info:
            from_url(url)
        assert "secret" not in str(info.value)
