"""The API of the gateway's tests: it is part of the testing kit."""

from fairlead.testing.api import (
    Answer,
    Ask,
    FakeApi,
    Wire,
    cut,
    drip,
    half_close,
    hang,
    hold,
    raw,
    reply,
    reset,
)

__all__ = ["Answer", "Ask", "FakeApi", "Wire", "cut", "drip", "half_close", "hang", "hold", "raw", "reply", "reset"]
