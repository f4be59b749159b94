"""The two calls this project makes to the gateway. Neither ever fails the request it is made from."""

from __future__ import annotations

import json
import logging
from http.client import HTTPException
from urllib.request import ProxyHandler, Request, build_opener

from django.conf import settings

TIMEOUT = 2.0
"""Seconds that a visitor may have to wait for a gateway that is gone."""

logger = logging.getLogger(__name__)
opener = build_opener(ProxyHandler({}))  # the gateway is a neighbour: never ask a proxy for it


def trigger(rooms: list[object], data: object) -> bool:
    """Publish to rooms. False if the gateway did not take it: clients will see it when they next ask over HTTP."""
    return post("/trigger/", {"rooms": rooms, "data": data})


def disconnect(user: int) -> bool:
    """Close everything a user has open. A browser comes back once, and is then judged by the session it has."""
    return post("/disconnect", {"user": user})


def post(path: str, body: dict[str, object]) -> bool:
    headers = {"Authorization": f"Bearer {settings.FAIRLEAD_API_KEY}", "Content-Type": "application/json"}
    request = Request(settings.FAIRLEAD_API_URL + path, json.dumps(body).encode(), headers)
    try:
        with opener.open(request, timeout=TIMEOUT) as response:
            response.read()
    except (OSError, HTTPException) as exc:
        logger.error("the gateway did not take %s: %s", path, exc)
        return False
    return True
