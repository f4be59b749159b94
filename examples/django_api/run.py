"""Run the example: the Django project under gunicorn and a gateway beside it, until Ctrl-C.

    python examples/django_api/run.py [--port 8000] [--gateway-port 8100] [--api-port 8101] [--database FILE]

Makes the database if there is none, with two users and three rooms. Everything listens on 127.0.0.1 only.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
PASSWORDS = {"ada": "lovelace", "grace": "hopper"}
ROOMS = {"Harbour": ["ada", "grace"], "Chart room": ["ada", "grace"], "Captain's cabin": ["ada"]}
START_TIMEOUT = 30.0
"""Seconds for both servers to answer."""
STOP_TIMEOUT = 15.0
"""Seconds for a server to end by itself before it is killed."""


def main() -> int:
    options = parse(sys.argv[1:])
    stopped: list[int] = []
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else nohup: it shall outlive its terminal
        numbers.append(signal.SIGHUP)
    for number in numbers:
        signal.signal(number, lambda number, _: stopped.append(number))
    try:
        check_ports({"--port": options.port, "--gateway-port": options.gateway_port, "--api-port": options.api_port})
        environ = environment(options)
        fill_database(environ)
        run(commands(options), environ, options, stopped)
    except DemoError as exc:
        print(f"demo: {exc}", file=sys.stderr)
        return 1
    return 0


class DemoError(Exception):
    """What stops the demo, in one line."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A chat: Django over HTTP, Fairlead for the sockets.")
    parser.add_argument("--port", type=int, default=8000, help="where the page is (default: 8000)")
    parser.add_argument("--gateway-port", type=int, default=8100, help="where sockets connect (default: 8100)")
    parser.add_argument("--api-port", type=int, default=8101, help="where Django reaches the gateway (default: 8101)")
    parser.add_argument("--database", default=str(HERE / "demo.sqlite3"), help="SQLite file; made if there is none")
    return parser.parse_args(arguments)


def check_ports(ports: Mapping[str, int]) -> None:
    for flag, port in ports.items():
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, port))
            except OSError as exc:
                other = f'python examples/django_api/run.py {flag} PORT, or make demo ARGS="{flag} PORT"'
                raise DemoError(f"port {port} cannot be used ({exc.strerror}); take another: {other}") from None


def environment(options: argparse.Namespace) -> dict[str, str]:
    """What both servers are told: one key, made for this run, and where the other one is."""
    page = f"http://{HOST}:{options.port}"
    return {
        **os.environ,
        "FAIRLEAD_API__KEYS": secrets.token_urlsafe(32),
        "FAIRLEAD_API__PORT": str(options.api_port),
        "FAIRLEAD_SERVER__PORT": str(options.gateway_port),
        "FAIRLEAD_SERVER__ALLOWED_ORIGINS": page,
        "FAIRLEAD_UPSTREAM__URL": f"{page}/api/bootstrap/",
        "DEMO_GATEWAY_URL": f"http://{HOST}:{options.gateway_port}",
        "DEMO_GATEWAY_API_URL": f"http://{HOST}:{options.api_port}",
        "DEMO_DATABASE": str(Path(options.database).absolute()),
        "DEMO_SECRET_KEY": secrets.token_urlsafe(50),
        "DJANGO_SETTINGS_MODULE": "project.settings",
    }


def fill_database(environ: Mapping[str, str]) -> None:
    """Bring the database up to date; users, rooms and memberships are set again each time, messages stay."""
    os.environ.update(environ)
    sys.path.insert(0, str(HERE))
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)

    from chat.models import Room
    from django.contrib.auth.models import User

    for name, password in PASSWORDS.items():
        user, _ = User.objects.get_or_create(username=name)
        user.set_password(password)
        user.save()
    for name, members in ROOMS.items():
        room, _ = Room.objects.get_or_create(name=name)
        room.members.set(User.objects.filter(username__in=members))


def commands(options: argparse.Namespace) -> dict[str, list[str]]:
    # Without the control socket, which two runs of the demo would have in common: it is one file of the user's.
    page = [sys.executable, "-m", "gunicorn", "project.wsgi", "--no-control-socket"]
    page += ["--workers=2", "--threads=4", "--log-level=warning", f"--bind={HOST}:{options.port}"]
    gateway = [sys.executable, "-m", "fairlead", "gateway", "-c", str(HERE / "fairlead.toml")]
    return {"the Django project": page, "the gateway": gateway}


def run(
    commands: Mapping[str, Sequence[str]], environ: Mapping[str, str], options: argparse.Namespace, stopped: list[int]
) -> None:
    """Start both, wait for the end, end both. Signals are only noted, so that nothing here is ever cut short."""
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            # In a group of its own, so that Ctrl-C reaches it through us and not twice.
            children[name] = subprocess.Popen(command, cwd=HERE, env=environ, process_group=0)
        deadline = time.monotonic() + START_TIMEOUT
        while not stopped and not ready(options):
            check(children)
            if time.monotonic() > deadline:
                raise DemoError(f"not everything answered within {START_TIMEOUT:.0f} s")
            time.sleep(0.1)
        if not stopped:
            print(welcome(options), flush=True)
        while not stopped:
            check(children)
            time.sleep(0.1)
    finally:
        stop(children.values())


def check(children: Mapping[str, subprocess.Popen[bytes]]) -> None:
    for name, child in children.items():
        if child.poll() is not None:
            raise DemoError(f"{name} ended with status {child.returncode}; its own words stand above")


def ready(options: argparse.Namespace) -> bool:
    opener = build_opener(ProxyHandler({}))
    try:
        for url in (f"http://{HOST}:{options.port}/login/", f"http://{HOST}:{options.gateway_port}/readyz"):
            opener.open(url, timeout=5).close()
    except OSError:
        return False
    return True


def welcome(options: argparse.Namespace) -> str:
    users = "\n".join(f"    {name:<6} password {password}" for name, password in PASSWORDS.items())
    return f"""
Open http://{HOST}:{options.port}/ twice, the second time in another browser or a private window, and log in as

{users}

What one says, the other sees at once. The Captain's cabin is Ada's alone. Ctrl-C ends the demo.
"""


def stop(children: Collection[subprocess.Popen[bytes]]) -> None:
    for child in children:
        child.terminate()
    deadline = time.monotonic() + STOP_TIMEOUT
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


if __name__ == "__main__":
    sys.exit(main())
