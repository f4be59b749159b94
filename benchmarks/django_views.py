"""Django: server CPU per echo of 64 bytes, and memory per connection that waits, 1,000 of them.

"fairlead" is an ``async def`` view under ``fairlead.django``, "fairlead blocking" one with a thread; the others are
Channels' ``AsyncWebsocketConsumer``. All check the Origin, and know the session and its user.
"""

from __future__ import annotations

import functools

from harness import Bench, Target
from servers import HERE, script
from systems import System
from views import compare

IDLE = 1000
_PROJECT = {"DJANGO_SETTINGS_MODULE": "django_settings", "PYTHONPATH": str(HERE)}


def _system(name: str, call: str, *packages: str) -> System:
    return System(name, (*packages, "Django"), functools.partial(script, call, environ=_PROJECT))


SYSTEMS = (
    _system("fairlead", "django_site.py", "fairlead"),
    _system("fairlead blocking", "django_site.py blocking", "fairlead"),
    _system("Channels on daphne", "peers/with_consumers.py daphne", "channels", "daphne", "Twisted"),
    _system("Channels on uvicorn", "peers/with_consumers.py uvicorn", "channels", "uvicorn"),
)
TARGETS = [Target("fairlead", 1.0, f"Channels on {server}") for server in ("daphne", "uvicorn")]


def main() -> None:
    """Compare both ways."""
    bench = Bench(__doc__)
    compare(bench, "Django", SYSTEMS, idle=IDLE, echoes=TARGETS, memory=TARGETS)


if __name__ == "__main__":
    main()
