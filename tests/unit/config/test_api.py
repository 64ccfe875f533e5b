"""The checks of table [api]."""

from __future__ import annotations

import pytest

from nova.config.load import load
from nova.errors import ConfigError

KEY = "sha256:" + 64 * "a"


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["api.listen="],
        ["api.listen=localhost:0"],
        ["api.listen=127.9.9.9:80"],
        ["api.listen=[::1]:80"],
        ["api.listen=0.0.0.0:80", f'api.keys=["{KEY}"]'],
        ["api.listen=0.0.0.0:80", "api.open=true"],
        ['api.cors=["https://chat.example","http://localhost:3000","*"]'],
        ["api.tls_certificate=a.pem", "api.tls_key=b.pem"],
    ],
)
def test_usable(settings: list[str]) -> None:
    load(None, settings)


@pytest.mark.parametrize(
    ("settings", "key", "words"),
    [
        (["api.listen=0.0.0.0:80"], "api.listen", "nova keys api"),
        (["api.listen=[::]:80"], "api.listen", "can be reached by others"),
        (["api.listen=mac.local:80"], "api.listen", "api.open"),
        (["api.listen=mac.local"], "api.listen", "host:port"),
        (["api.listen=127.0.0.1:70000"], "api.listen", "65535"),
        (["api.listen=my host:1"], "api.listen", "host name"),
        (['api.keys=["my-secret"]'], "api.keys[0]", "sha256:"),
        ([f'api.keys=["{KEY}","{KEY}0"]'], "api.keys[1]", "64 hex digits"),
        (["api.tls_certificate=a.pem"], "api.tls_key", "both files"),
        (["api.tls_key=a.pem"], "api.tls_key", "both files"),
        (['api.cors=["chat.example"]'], "api.cors[0]", "'chat.example'"),
        (['api.cors=["https://chat.example/"]'], "api.cors[0]", "an origin"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(settings: list[str], key: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, settings)
    assert key in str(caught.value)
    assert words in str(caught.value)
    assert "my-secret" not in str(caught.value)
