"""Identity and origin: canonical JSON, content hashes, a snapshot of the environment. No torch, no SQL.

Goes in: plain records and paths. Comes out: hex keys and plain dicts. A key never depends on where a file lies or when
it was made, only on its content (after simonw/llm's content-addressed log).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

_DIGITS = 20
_LARGE = 64 << 20  # bytes of a file whose hash is worth keeping between commands
_VERSIONS = ("rankscope", "torch", "transformers", "peft", "tokenizers", "numpy", "scipy", "datasets")


def plain(value: Any) -> Any:
    """A record as JSON-ready data: dataclasses and tuples become dicts and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, no NaN. Raises ValueError on NaN or infinity."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def content_key(value: Any) -> str:
    """First 20 hex digits of the SHA-256 of the canonical JSON (80 bits: no collision in any real store)."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:_DIGITS]


def public_name(model_id: str) -> str:
    """A hub id as it is; of a path only the last part, since a report is for others and a path is nobody's business."""
    is_path = model_id.startswith((".", "/", "~")) or model_id.count("/") > 1
    return f"{model_id.rstrip('/').rsplit('/', 1)[-1]} (local)" if is_path else model_id


def file_key(path: Path) -> str:
    """Content hash of one file, remembered per path, size and modification time."""
    stat = path.stat()
    return _hash_file(str(path.resolve()), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _hash_file(path: str, size: int, mtime_ns: int) -> str:
    own = content_key([path, size, mtime_ns])
    if size >= _LARGE and len(found := recall("hashes", own) or "") == _DIGITS:
        return found
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    found = digest.hexdigest()[:_DIGITS]
    if size >= _LARGE:
        remember("hashes", own, found)
    return found


def recall(kind: str, key: str) -> str | None:
    """What an earlier command kept in the user's cache under this key; None if nothing."""
    try:
        return (_cache() / kind / key).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def remember(kind: str, key: str, text: str) -> None:
    """Keep what can be worked out again and takes long, for the next command. A courtesy: a full disk is no matter."""
    path = _cache() / kind / key
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}.new")  # a name of this process's own first: nobody reads half a file
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rankscope"


def folder_key(folder: Path, patterns: tuple[str, ...]) -> str:
    """Content hash of the files of a folder that match any pattern; names count, places don't."""
    files = sorted({p for pattern in patterns for p in folder.glob(pattern) if p.is_file()})
    return content_key([[p.name, file_key(p)] for p in files])


def environment(extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """Where a result came from: versions, platform, processor count. Never user names, paths or host names."""
    versions = {}
    for name in _VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "versions": versions,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        **(extra or {}),
    }
