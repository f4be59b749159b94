"""The tree of errors is whole, and drawn as it is."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import django
from django.conf import settings

import fairlead
from fairlead import errors
from fairlead.errors import FairleadError, NetworkError, PeerError, UsageError


def below(kind: type[FairleadError]) -> Iterator[type[FairleadError]]:
    for each in kind.__subclasses__():
        yield each
        yield from below(each)


def drawn() -> dict[type[FairleadError], str]:
    """What the drawing has in each branch."""
    ours, theirs = (errors.__doc__ or "").split("PeerError ")
    theirs, nobodys = theirs.split("NetworkError ")
    return {UsageError: ours, PeerError: "PeerError " + theirs, NetworkError: "NetworkError " + nobodys}


def test_every_error_stands_in_one_branch_and_in_its_drawing() -> None:
    if not settings.configured:  # parts of fairlead.django cannot be imported without a project
        settings.configure()
        django.setup()
    for module in pkgutil.walk_packages(fairlead.__path__, "fairlead."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for each in below(FairleadError):
        if each.__module__.startswith("fairlead."):
            branches = [text for branch, text in drawn().items() if issubclass(each, branch)]
            assert len(branches) == 1, each
            assert each.__name__ in branches[0], each
