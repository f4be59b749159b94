"""What there is, by its path: ``/jobs/`` is the board, ``/jobs/1/`` a job. Both have listeners."""

from __future__ import annotations

import threading
from typing import Any

from pyramid.authorization import Allow, Authenticated, Deny, Everyone

from fairlead.pyramid import WebSocketAwareResource
from fairlead.sync import BlockingWebSocket

STATES = ("wait", "start", "done")


class Board(WebSocketAwareResource, dict[str, Any]):
    """All jobs; its listeners hear of each of them."""

    __acl__ = [(Allow, Everyone, "view"), (Allow, Authenticated, "change")]

    def __init__(self, parent: object) -> None:
        self.__name__ = "jobs"
        self.__parent__ = parent

    def visible(self, request: Any) -> list[Job]:
        """The jobs that whoever asks may see."""
        return [job for job in self.values() if request.has_permission("view", job)]


class Job(WebSocketAwareResource):
    """One job; its listeners hear of every change."""

    def __init__(self, name: str, board: Board, title: str) -> None:
        self.__name__ = name
        self.__parent__ = board
        self.title = title
        self.state = STATES[0]
        self._lock = threading.Lock()

    def change(self, state: str) -> None:
        """Enter a state, and tell. Of two at once the last one told is the one it is in."""
        with self._lock:
            self.state = state
            self.send(state)
            if not self.secret:
                self.__parent__.send({"id": self.__name__, "state": state})

    def follow(self, websocket: BlockingWebSocket) -> None:
        """Tell what it is now, and from now on what it becomes; nothing falls in between."""
        with self._lock:
            self.add_listener(websocket)
            websocket.send(self.state)

    @property
    def secret(self) -> bool:
        """Whether only some may see it."""
        return "__acl__" in vars(self)


def make_root() -> dict[str, Board]:
    """The tree: three jobs, one of them for ada's eyes only."""
    root: dict[str, Board] = {}
    board = root["jobs"] = Board(parent=None)
    for name, title in (("1", "Paint the hull"), ("2", "Mend the sails"), ("3", "Bury the treasure")):
        board[name] = Job(name, board, title)
    board["3"].__acl__ = [(Allow, "ada", "view"), (Deny, Everyone, "view")]
    return root
