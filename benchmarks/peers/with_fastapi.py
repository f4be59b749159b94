"""The benchmarks' work on FastAPI and uvicorn: JSON-RPC 2.0 with pydantic models. ``python with_fastapi.py PORT``.

Path: /rpc. FastAPI has no calls over WebSockets of its own; this is what its users write: a model for the request, one
for each method's parameters, one for the response.
"""

from __future__ import annotations

import sys
from typing import Any, Literal

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from on_uvicorn import serve
from pydantic import BaseModel, ValidationError

app = FastAPI()


class Request(BaseModel):
    """A call."""

    jsonrpc: Literal["2.0"]
    id: int | str | None = None
    method: str
    params: list[Any] | dict[str, Any] = []


class Response(BaseModel):
    """Its answer."""

    jsonrpc: Literal["2.0"] = "2.0"
    id: int | str | None
    result: Any


class Error(BaseModel):
    """What is wrong with a call."""

    code: int
    message: str


class ErrorResponse(BaseModel):
    """The answer to a call that cannot be carried out."""

    jsonrpc: Literal["2.0"] = "2.0"
    id: int | str | None = None
    error: Error


class AddParams(BaseModel):
    """The parameters of ``add``."""

    a: int
    b: int


async def add(params: AddParams) -> int:
    """The sum."""
    return params.a + params.b


METHODS = {"add": (add, AddParams)}


async def answer(text: str) -> Response | ErrorResponse:
    """Carry out one call."""
    try:
        request = Request.model_validate_json(text)
    except ValidationError as exc:
        return ErrorResponse(error=Error(code=-32600, message=str(exc)))
    if request.method not in METHODS:
        return ErrorResponse(id=request.id, error=Error(code=-32601, message=request.method))
    function, model = METHODS[request.method]
    given = request.params
    try:
        params = model.model_validate(
            given if isinstance(given, dict) else dict(zip(model.model_fields, given, strict=True))
        )
    except ValueError as exc:
        return ErrorResponse(id=request.id, error=Error(code=-32602, message=str(exc)))
    return Response(id=request.id, result=await function(params))


@app.websocket("/rpc")
async def rpc(socket: WebSocket) -> None:
    """Carry out one client's calls."""
    await socket.accept()
    try:
        while True:
            response = await answer(await socket.receive_text())
            await socket.send_text(response.model_dump_json())
    except WebSocketDisconnect:
        pass


if __name__ == "__main__":
    serve(app, int(sys.argv[1]))
