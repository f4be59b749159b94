"""Firefox, by its own remote protocol: Playwright drives only builds of its own, not the one of a distribution.

    with firefox() as browser:
        page = browser.page("http://127.0.0.1:8000/")
        page.fill("[name=text]", "ahoy")
        page.click("#say")
        page.shows("#said", "ahoy")

The protocol, Marionette, is WebDriver's commands over TCP, as JSON with its length before it: ``[0, id, command,
parameters]`` is answered by ``[1, id, error, result]``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import pytest
from tests.e2e.processes import until

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
START = 60.0
"""Seconds until it takes commands, and for each command; it starts in five where nothing else is going on."""

needs_firefox = pytest.mark.skipif(FIREFOX is None, reason="needs Firefox")


class Firefox:
    """A running Firefox; all its pages are one visitor's, with the same cookies.

    Args:
        port: Where it takes commands, from one client.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=START)
        self._file = self._socket.makefile("rb")
        self._commands = 0
        self._receive()  # it speaks first, of its version
        self.ask("WebDriver:NewSession")

    def ask(self, command: str, **parameters: object) -> object:
        """Do a command; its result. AssertionError says why it failed."""
        self._commands += 1
        text = json.dumps([0, self._commands, command, parameters])  # ASCII: the length is in bytes
        self._socket.sendall(f"{len(text)}:{text}".encode())
        _, number, error, result = cast("tuple[int, int, object, object]", self._receive())
        assert number == self._commands and error is None, f"{command} {parameters}: {error}"
        return result["value"] if isinstance(result, dict) and "value" in result else result

    def _receive(self) -> object:
        digits = b""
        while (byte := self._file.read(1)).isdigit():
            digits += byte
        assert digits, "Firefox has ended"
        return json.loads(self._file.read(int(digits)))

    def page(self, url: str) -> Page:
        """Open a page in a new tab; returns when it is loaded."""
        tab = cast("dict[str, str]", self.ask("WebDriver:NewWindow", type="tab"))
        page = Page(self, tab["handle"])
        page.ask("WebDriver:Navigate", url=url)
        return page

    def close(self) -> None:
        """Let go of it; it goes on."""
        self._file.close()
        self._socket.close()


@dataclass(frozen=True)
class Page:
    """A tab. Its elements are named by CSS selectors."""

    browser: Firefox
    handle: str

    def ask(self, command: str, **parameters: object) -> object:
        """Do a command in this tab."""
        self.browser.ask("WebDriver:SwitchToWindow", handle=self.handle)
        return self.browser.ask(command, **parameters)

    def run(self, script: str, *arguments: object) -> object:
        """Run the body of a function in the page; what it returns, or the promise it returns resolves to."""
        return self.ask("WebDriver:ExecuteScript", script=script, args=arguments)

    def fill(self, selector: str, text: str) -> None:
        """Press the keys for a text in a field."""
        self.ask("WebDriver:ElementSendKeys", id=self._find(selector), text=text)

    def click(self, selector: str) -> None:
        """Click; if this leads to another page, return when that is loaded."""
        self.ask("WebDriver:ElementClick", id=self._find(selector))

    def _find(self, selector: str) -> str:
        found = self.ask("WebDriver:FindElement", using="css selector", value=selector)
        (element,) = cast("dict[str, str]", found).values()
        return element

    def text(self, selector: str) -> str:
        """What the first such element shows; "" if there is none."""
        return cast(str, self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def shows(self, selector: str, text: str) -> None:
        """Wait until a text is in an element; AssertionError if it does not come."""
        until(lambda: text in self.text(selector), f"{text!r} in {selector} in Firefox")


@contextmanager
def firefox() -> Iterator[Firefox]:
    """Run it with a profile of its own; when the block ends it is killed, and the profile removed."""
    assert FIREFOX is not None
    with TemporaryDirectory(prefix="fairlead-firefox-") as folder:
        profile = Path(folder)
        # It picks a free port. Settings of the desktop, such as a proxy, are not for the tests.
        (profile / "user.js").write_text('user_pref("marionette.port", 0);\nuser_pref("network.proxy.type", 0);\n')
        with open(profile / "log", "wb") as log:
            process = subprocess.Popen(
                [FIREFOX, "--headless", "--marionette", "--no-remote", "--profile", folder],
                env={**os.environ, "HOME": folder, "MOZ_CRASHREPORTER_DISABLE": "1"},
                stdout=log,
                stderr=log,
                process_group=0,  # its many processes end together
            )
        try:
            browser = Firefox(_port(profile, process))
            try:
                yield browser
            finally:
                browser.close()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _port(profile: Path, process: subprocess.Popen[bytes]) -> int:
    """Where it listens, once it does."""
    file = profile / "MarionetteActivePort"

    def listens() -> bool:
        assert process.poll() is None, (profile / "log").read_text(errors="replace")
        return file.exists() and file.read_text() != ""

    until(listens, "Firefox listens", seconds=START)
    return int(file.read_text())
