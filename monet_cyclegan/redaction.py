"""Secrets, left out of whatever is shown or saved: keys and passwords of the environment, of .env and in addresses."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

HIDDEN = "***"
SHORTEST = 6  # characters of a secret: shorter ones stand in other words, too
_SECRET_NAME = re.compile(r"(^|_|\b)(api_?key|key|token|secret|password|passwd|credentials?)$", re.IGNORECASE)
_PASSWORD = re.compile(r"(://[^/:@\s]*):[^@\s/]+@")  # postgresql://user:password@host


def secrets(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The values of variables that are named like secrets, such as WANDB_API_KEY; longer ones first."""
    found = {text for name, text in environment.items() if _SECRET_NAME.search(name) and len(text) >= SHORTEST}
    return sorted(found, key=len, reverse=True)


def redacted(value: Any, known: list[str] | None = None) -> Any:
    """The same without secrets: in texts, also of lists and dicts, and whatever a key is named like one for."""
    known = secrets() if known is None else known
    if isinstance(value, str):
        for secret in known:
            value = value.replace(secret, HIDDEN)
        return _PASSWORD.sub(rf"\1:{HIDDEN}@", value)
    if isinstance(value, dict):
        return {
            key: HIDDEN if item and isinstance(item, str) and _SECRET_NAME.search(str(key)) else redacted(item, known)
            for key, item in value.items()
        }
    return [redacted(item, known) for item in value] if isinstance(value, list | tuple) else value


def redacted_override(override: str) -> str:
    """The same for an argument such as ``+logger.wandb.api_key=...``."""
    key, equals, value = override.partition("=")
    name = key.rpartition(".")[2]
    if equals and value not in ("", "null") and _SECRET_NAME.search(name) and "${" not in value:
        return f"{key}={HIDDEN}"
    return redacted(override)
