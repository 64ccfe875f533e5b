"""API keys: the configuration holds SHA-256 digests, a request brings the key. Pure."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

from nova.api.errors import ApiError

_WRITTEN = re.compile(r"sha256:([0-9a-f]{64})\Z")


class Keys:
    """The keys that may use the API. Without any, everyone may."""

    def __init__(self, written: Sequence[str]) -> None:
        """`written` as `nova.config.check` has found them: sha256: and 64 hex digits."""
        self._digests = [bytes.fromhex(match[1]) for one in written if (match := _WRITTEN.match(one))]
        assert len(self._digests) == len(written)

    def check(self, headers: Mapping[str, str]) -> str:
        """OpenAI's clients send `Authorization: Bearer KEY`, Anthropic's `x-api-key: KEY`. Returns whose request it is:
        the key's digest, "" where none is needed. Raises ApiError: 401."""
        if not self._digests:
            return ""
        key = presented(headers)
        if not key:
            raise ApiError(401, "an API key is needed: send it as Authorization: Bearer KEY", code="missing_api_key")
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        # Every digest is compared: the time tells neither whether nor which.
        if sum(hmac.compare_digest(digest, one) for one in self._digests) == 0:
            raise ApiError(401, "this API key is not known here", code="invalid_api_key")
        return digest.hex()


def presented(headers: Mapping[str, str]) -> str:
    """The key of a request, "" for none. Header names are lower case."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return (key.strip() if scheme.lower() == "bearer" else "") or headers.get("x-api-key", "")
