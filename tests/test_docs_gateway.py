"""The settings reference in docs/gateway.md has every key, in its section, with its default."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from fairlead.gateway.settings import ApiSettings, GatewaySettings, UpstreamSettings

PAGE = Path(__file__).parent.parent / "docs" / "gateway.md"
SETTINGS = GatewaySettings(upstream=UpstreamSettings(url="http://api.test/"), api=ApiSettings(keys=("k" * 16,)))
IN_WORDS = {("upstream", "url"), ("api", "keys"), ("limits", "connections")}
"""Keys without a default that could be written down."""


def documented(section: str) -> dict[str, str]:
    """The keys of one section's table, with their default as it is written."""
    text = PAGE.read_text().partition(f"### `[{section}]`")[2].partition("\n#")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", text, re.MULTILINE))


@pytest.mark.parametrize("section", msgspec.structs.asdict(SETTINGS))
def test_the_settings_reference_is_complete_and_right(section: str) -> None:
    defaults: dict[str, object] = json.loads(msgspec.json.encode(getattr(SETTINGS, section)))
    found = documented(section)
    assert list(found) == list(defaults)
    for key, default in defaults.items():
        if (section, key) not in IN_WORDS:
            assert json.loads(found[key].strip("`")) == default, f"{section}.{key}"
