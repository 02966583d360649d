"""What a page may load and run, as a Content-Security-Policy. In: a page's scripts. Out: policies.

Scripts are named by their hashes, so that nothing else runs, whatever gets onto a page; and none may make code of text
(expressions of charts are interpreted, ``ast`` in start.js). Knows nothing about what is on the page.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable

_SCRIPT = re.compile(r"<script\b([^>]*)>(.*?)</script>", re.DOTALL)
_META = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>\n?')


def file_policy(scripts: Iterable[str]) -> str:
    """For a file: it runs its own ``scripts``, loads nothing and sends nothing."""
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src {_named(scripts)}; img-src data: blob:"


def live_policy(scripts: Iterable[str]) -> str:
    """The same for a page that asks its own server for news."""
    rest = "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return f"{file_policy(scripts)}; {rest}"


def scripts_of(text: str) -> list[str]:
    """The scripts in a page of ours: no text or data of it holds a bare ``<script``."""
    return [body for kind, body in _SCRIPT.findall(text) if "json" not in kind]


def without_policy(text: str) -> str:
    """A page without the policy it carries, for a server that sends one."""
    return _META.sub("", text, count=1)


def _named(scripts: Iterable[str]) -> str:
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    return " ".join(f"'sha256-{base64.b64encode(d).decode()}'" for d in digests) or "'none'"
