"""What a host cannot do: the behaviours that are different there, with what is observed instead and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instead:
    """An exception.

    Attributes:
        seen: What is observed.
        reason: Why, in the words of docs/servers.md.
        fatal: The server does not live on, so that it is tried with one of its own.
    """

    seen: object
    reason: str
    fatal: bool = False


def _all_403(reason: str) -> dict[str, Instead]:
    """Of a server without the extension ``websocket.http.response``."""
    seen: dict[str, object] = {
        "a_guard_refuses_with_status_and_body": (403, ""),
        "a_guard_refuses_with_headers": None,
        "a_refusal_may_repeat_a_header": None,
        "a_guard_may_raise_starlettes_exception": (403, "", None),
        "a_guard_that_fails_refuses_and_says_nothing": (403, ""),
        "an_endpoint_refuses_for_itself": (403, ""),
        "a_page_of_another_origin_is_refused": (403, ""),
        "a_path_without_a_route_is_not_found": (403, ""),
        "a_parameter_of_another_type_is_not_found": 403,
    }
    return {name: Instead(instead, reason) for name, instead in seen.items()}


_VANISHED = {
    "a_client_that_vanishes_ends_a_receive": Instead(
        1005, "a client that vanishes looks like one that closed without a code: 1005, not 1006"
    )
}
_NO_REASON_IN = {"the_clients_reason_reaches_the_handler": Instead("", "the client's reason is dropped")}
_NO_CLOSE_IN = {
    "the_clients_close_code_reaches_the_handler": Instead(1006, "every client that leaves has close code 1006"),
    **_NO_REASON_IN,
}
_NO_ACCEPT_HEADERS = {
    "headers_of_the_accept_reach_the_client": Instead(None, "headers of the accept, such as cookies, are dropped")
}

RESTART = "a_client_is_told_of_a_restart"
"""The behaviour that only processes have."""

_NO_RESTART = {RESTART: Instead(1006, "on a restart clients are dropped without a Close frame")}

CANNOT: Mapping[str, Mapping[str, Instead]] = {
    "memory": {
        "a_client_waits_for_a_handler_that_does_not_read": Instead(
            "never waits", "a client in memory hands its messages over at once"
        ),
    },
    "fastapi-routes": {
        **_VANISHED,
        "a_path_without_a_route_is_not_found": Instead((403, ""), "a socket without a route is refused with 403"),
        "a_parameter_of_another_type_is_not_found": Instead(403, "a socket without a route is refused with 403"),
        "a_room_is_found_by_its_name": Instead(
            "closed with 1011", "rooms are joined as objects, not by name: only an `App` has rooms of its own"
        ),
    },
    "uvicorn-fairlead": {
        "a_message_past_the_limit_closes_the_connection": Instead(
            "1048577 bytes come back", "`--ws-max-size` is the limit of a message, 16 MiB unless you say otherwise"
        ),
    },
    "uvicorn": _VANISHED,
    "uvicorn-wsproto": _VANISHED,
    "hypercorn": _NO_CLOSE_IN,
    "hypercorn-http2": {
        **_NO_CLOSE_IN,
        **_NO_RESTART,
        "a_plain_request_to_a_socket_is_told_to_upgrade": Instead((426, None), "HTTP/2 has no `Upgrade` header"),
        "sending_waits_for_a_client_that_does_not_read": Instead(
            "never waits", "over HTTP/2 nothing waits for a client that does not read: what is sent to it fills memory"
        ),
        "a_member_that_does_not_read_is_closed_and_may_come_back": Instead(
            "gets everything",
            "over HTTP/2 nothing waits for a client that does not read: what is sent to it fills memory",
        ),
    },
    "granian": {
        **_VANISHED,
        **_NO_RESTART,
        **_NO_REASON_IN,
        **_NO_ACCEPT_HEADERS,
        "a_refusal_may_repeat_a_header": Instead(
            "no answer",
            "a refusal in which a header stands twice, such as `Set-Cookie`, kills the process",
            fatal=True,
        ),
    },
    "gunicorn": {**_all_403("every refusal is a 403 without a body"), **_NO_REASON_IN, **_NO_RESTART},
    "daphne": {
        **_all_403("every refusal is a 403 without a body"),
        **_NO_RESTART,
        **_NO_REASON_IN,
        **_NO_ACCEPT_HEADERS,
        "the_reason_reaches_the_client": Instead("", "the reason of a close is dropped"),
        "an_empty_text_is_a_message": Instead("after", "empty messages are not sent"),
        "an_empty_binary_message_is_a_message": Instead("after", "empty messages are not sent"),
        "a_message_past_the_limit_closes_the_connection": Instead(
            "closed with 1006", "a client whose message is too large is dropped without a Close frame"
        ),
        "or_it_closes_the_connection_where_the_handler_wants_that": Instead(
            (1011, ""), "1000, 1011 and 3000 to 4999 are the only close codes: any other becomes 1011"
        ),
        "sending_waits_for_a_client_that_does_not_read": Instead(
            "never waits", "nothing waits for a client that does not read: what is sent to it fills memory"
        ),
        "a_client_waits_for_a_handler_that_does_not_read": Instead(
            "never waits", "nothing waits for a handler that does not receive: what is sent to it fills memory"
        ),
        "a_member_that_does_not_read_is_closed_and_may_come_back": Instead(
            "gets everything", "nothing waits for a client that does not read: what is sent to it fills memory"
        ),
    },
}

COMPLAINS: Mapping[str, str] = {
    "gunicorn": "a client that leaves during the handshake is an error with a traceback in its log",
    "daphne": "1000, 1011 and 3000 to 4999 are the only close codes: any other becomes 1011",
}
"""Hosts in whose log the application seems to fail where it does not."""
