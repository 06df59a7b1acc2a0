"""What the overrides that a checkpoint brings may do: set values, and never say where files are written.

A stranger may have written them. Whoever trusts one gives it again on the command line, where nothing is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_CHARACTERS = 1000
_DEEPEST = 16
_PLAIN = re.compile(  # no interpolation, nothing of Hydra's own, no config file from elsewhere
    r"""[+~]{0,2} (?!hydra\b) (
        [\w-]+ (\.[\w-]+)+ = [^$]*  # no $ at all, since Hydra reads $\{ as ${, too
      | \w[\w/-]* = ((?!\.\.)[^$])*  # may be a group, whose option ../x would be a file outside of conf
    ) | ~ (?!hydra\b) \w[\w./-]*""",
    re.VERBOSE,
)
# What is only read, and may lie anywhere; experiment= is looked at by who reads it.
_READ = re.compile(r"data\.(root|a|b)|init_from|teacher|experiment|features\.weights")
# Caches: files in there have names made of hashes, so nothing of the user's is written over.
_CACHES = re.compile(r"(paths\.cache|data\.cache_dir|callbacks\.\w+\.cache_dir)")
# The last part of a key that says where something is written, or which program is started.
_WRITTEN = (
    "path|paths|run|checkpoints|folder|table|best|dir|dirs|directory|save_dir|log_dir|root_dir|dirpath|filename|file|"
    "default_root_dir|weights_save_path|output|output_dir|database|storage|cache_dir|base_url|host|command"
)
_WRITES = re.compile(rf"(.*\.)?({_WRITTEN})")
_WRITES_INSIDE = re.compile(rf"""\b({_WRITTEN})["']?\s*:""")
_LEAVES = re.compile(  # a part of a value that begins with /, ~ or a drive's letter, or goes up
    r"""(^|[\s\[{(,:='"]) ([/~] | [A-Za-z]:[\\/]) | (^|[^\w.]) \.\. ($|[^\w.]) | \\ | \w+://""", re.VERBOSE
)


def is_harmless(override: str) -> bool:
    """Whether an override only sets values, is short and flat enough to be read, and says nothing of files."""
    if len(override) > MOST_CHARACTERS or not override.isprintable() or "_target_" in override:
        return False
    if not _PLAIN.fullmatch(override) or _depth(override) > _DEEPEST:
        return False
    key, _, value = override.lstrip("+~").partition("=")
    if key == "teacher" and "://" in value:  # which would be fetched
        return False
    if override.startswith("~") or _READ.fullmatch(key):
        return True
    if _CACHES.fullmatch(key):
        return ".." not in value
    names_a_place = "." in key and key != "callbacks.best" and _WRITES.fullmatch(key)
    return not (names_a_place or _LEAVES.search(value) or _WRITES_INSIDE.search(value))


def is_harmless_file(text: str) -> bool:
    """Whether an experiment's file only sets values, as overrides might.

    Raises:
        ValueError: it is not YAML, or not of settings.
    """
    if re.search(r"_target_|\$|\.\.|hydra|[&*]\w", text):  # & and * make few lines stand for many
        return False
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    if not isinstance(found, dict):
        return found is None
    return all(is_harmless(f"{key}={value}") for key, value in _flat(found) if not key.startswith("defaults"))


def _flat(settings: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:  # which leaves something out
            yield f"{prefix}{key}", value


def _depth(text: str) -> int:
    deepest = depth = 0
    for character in text:
        if character in "[{(":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]})":
            depth -= 1
    return deepest
