"""TLS from the files that the settings name."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from fairlead.errors import SettingsError
from fairlead.gateway.settings import ServerSettings, UpstreamSettings
from fairlead.gateway.tls import client_context, server_context


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``cert.pem`` with ``key.pem``; ``both.pem`` has the two; ``locked.pem`` is the key with a pass phrase; and two
    others' keys."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl program")
    path = tmp_path_factory.mktemp("tls")
    curve = "-pkeyopt ec_paramgen_curve:prime256v1"
    for command in (
        f"req -x509 -newkey ec {curve} -nodes -days 2 -subj /CN=localhost -keyout key.pem -out cert.pem",
        f"genpkey -algorithm EC {curve} -out other.pem",
        "genpkey -algorithm ED25519 -out other_kind.pem",
        "pkey -in key.pem -aes256 -passout pass:x -out locked.pem",
    ):
        subprocess.run(["openssl", *command.split()], cwd=path, check=True, capture_output=True)
    (path / "both.pem").write_bytes((path / "cert.pem").read_bytes() + (path / "key.pem").read_bytes())
    (path / "junk.pem").write_text("junk")
    return path


@pytest.mark.parametrize(("certificate", "key"), [("cert.pem", "key.pem"), ("both.pem", "")])
def test_a_certificate_is_loaded_with_its_key_beside_it_or_in_it(directory: Path, certificate: str, key: str) -> None:
    certfile, keyfile = str(directory / certificate), str(directory / key) if key else ""
    server = server_context(ServerSettings(certfile=certfile, keyfile=keyfile))
    assert server is not None and server.protocol is ssl.PROTOCOL_TLS_SERVER
    context = client_context(UpstreamSettings(url="https://a/", ca_file=certfile, cert_file=certfile, key_file=keyfile))
    assert (context.check_hostname, context.verify_mode, len(context.get_ca_certs())) == (True, ssl.CERT_REQUIRED, 1)


@pytest.mark.parametrize(
    ("certificate", "key", "blamed", "fault"),
    [
        ("none.pem", "key.pem", "cert", "No such file or directory"),
        (".", "key.pem", "cert", "Is a directory"),
        ("junk.pem", "key.pem", "cert", "it holds no certificate in PEM"),
        ("key.pem", "", "cert", "it holds no certificate in PEM"),
        ("cert.pem", "", "cert", "it holds no private key in PEM"),
        ("cert.pem", "none.pem", "key", "No such file or directory"),
        ("cert.pem", "junk.pem", "key", "it holds no private key in PEM"),
        ("cert.pem", "other.pem", "key", "its private key is not the certificate's"),
        ("cert.pem", "other_kind.pem", "key", "its private key is not the certificate's"),
        ("cert.pem", "locked.pem", "key", "its private key has a pass phrase, which nobody will be there to type"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_key_and_nobody_is_asked(
    directory: Path, certificate: str, key: str, blamed: str, fault: str
) -> None:
    cert, private = str(directory / certificate), str(directory / key) if key else ""
    file = re.escape(cert if blamed == "cert" else private)
    with pytest.raises(SettingsError, match=f"^server.{blamed}file: cannot use {file}: {fault}$"):
        server_context(ServerSettings(certfile=cert, keyfile=private))
    with pytest.raises(SettingsError, match=f"^upstream.{blamed}_file: cannot use {file}: {fault}$"):
        client_context(UpstreamSettings(url="https://a/", cert_file=cert, key_file=private))


def test_authorities_that_cannot_be_used_are_named(directory: Path) -> None:
    for name, fault in (("junk.pem", "it holds no certificate in PEM"), ("none.pem", "No such file or directory")):
        file = str(directory / name)
        with pytest.raises(SettingsError, match=f"^upstream.ca_file: cannot use {re.escape(file)}: {fault}$"):
            client_context(UpstreamSettings(url="https://a/", ca_file=file))
