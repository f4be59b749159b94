"""What the board and its jobs answer: a page, a change, a socket, all at the resource's own URL."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from pyramid.httpexceptions import HTTPBadRequest, HTTPForbidden, HTTPSeeOther
from pyramid.response import FileResponse, Response
from pyramid.security import forget, remember
from pyramid.view import view_config

from fairlead import WebSocket
from fairlead.pyramid import WebSocketView
from fairlead.sync import BlockingWebSocket
from jobs.resources import STATES, Board, Job
from jobs.security import is_user

PAGES = Path(__file__).parent / "pages"


@view_config(context=dict)
def home(request: Any) -> Any:
    """The way to the board."""
    return HTTPSeeOther("/jobs/")


# -- a job -------------------------------------------------------------------------------------------------------------


@view_config(context=Job, permission="view")
def job_page(request: Any) -> Any:
    """The page of a job; what is in it comes over the socket."""
    return FileResponse(PAGES / "job.html", request)


@view_config(context=Job, permission="change", request_method="POST", renderer="json")
def change(job: Job, request: Any) -> dict[str, str]:
    """An ordinary POST: when it is answered, every listener has been told."""
    state = request.POST.get("state")
    if state not in STATES:
        raise HTTPBadRequest(f"state must be one of {', '.join(STATES)}")
    job.change(state)
    return {"id": job.__name__ or "", "state": state}


@view_config(context=Job, permission="view", websocket=True)
class JobSocket(WebSocketView):
    """Tells the job's state, and every change. It waits in a thread of its own."""

    def handler(self, websocket: BlockingWebSocket) -> None:
        self.context.follow(websocket)
        for _ in websocket:  # until the client leaves
            pass


# -- the board ---------------------------------------------------------------------------------------------------------


@view_config(context=Board, permission="view")
def board_page(request: Any) -> Any:
    """The page of the board, with the name of who looks at it."""
    page = (PAGES / "board.html").read_text("utf-8")
    return Response(page.replace("{user}", escape(request.authenticated_userid or "")))


@view_config(context=Board, permission="view", websocket=True)
class BoardSocket(WebSocketView):
    """Tells all jobs, and every change. A coroutine waits in the event loop, so thousands may look at the board."""

    def __init__(self, request: Any) -> None:
        super().__init__(request)
        self.jobs = self.context.visible(request)  # here, where one may block

    async def handler(self, websocket: WebSocket) -> None:
        await self.context.add_listener(websocket)
        await websocket.send_json([{"id": job.__name__, "title": job.title, "state": job.state} for job in self.jobs])
        async for _ in websocket:
            pass


# -- logging in --------------------------------------------------------------------------------------------------------


@view_config(name="login", request_method="POST")
def login(request: Any) -> Any:
    """Log in with a name and a password."""
    name, password = request.POST.get("name", ""), request.POST.get("password", "")
    if not is_user(name, password):
        raise HTTPForbidden("no such user, or another password")
    return HTTPSeeOther("/jobs/", headers=remember(request, name))


@view_config(name="logout", request_method="POST")
def logout(request: Any) -> Any:
    """Log out."""
    return HTTPSeeOther("/jobs/", headers=forget(request))
