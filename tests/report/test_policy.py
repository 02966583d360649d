"""A page runs its own scripts by their hashes, and none may make code of text."""

from __future__ import annotations

import base64
import hashlib
import re
from html import unescape

from rankscope.report.html import page
from rankscope.report.policy import file_policy, live_policy, scripts_of, without_policy


def test_a_file_names_every_script_it_has(view):
    text = page(view)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    sources = re.search(r"script-src ([^;]*)", unescape(policy))[1].split()
    wanted = [f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts]
    assert sources == wanted and len(scripts) > 2
    assert "unsafe-eval" not in policy and "the-policy" not in text


def test_data_is_no_script():
    text = '<script type="application/json" id="a">{"b": "\\u003cscript>"}</script><script>run()</script>'
    assert scripts_of(text) == ["run()"]


def test_without_scripts_nothing_runs():
    assert "script-src 'none'" in file_policy([]) and "connect-src" not in file_policy([])
    assert "connect-src 'self'" in live_policy([]) and "frame-ancestors 'none'" in live_policy([])


def test_a_policy_is_taken_off_once():
    meta = '<meta http-equiv="Content-Security-Policy" content="x">\n'
    assert without_policy(f"<head>{meta}</head>&lt;meta") == "<head></head>&lt;meta"
