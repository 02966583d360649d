"""Nobody reads without the key, by another name, or writes at all."""

from __future__ import annotations

import re
import socket

import pytest

from rankscope.errors import InputError
from rankscope.report.policy import scripts_of
from rankscope.server.access import HEADERS, Pass
from rankscope.server.app import listen

PATHS = ["/", "/api/studies", "/studies/{key}", "/api/studies/{key}/state", "/nothing", "/openapi.json", "/docs"]


def refused(answer, status, words):
    assert answer.status_code == status
    assert words in answer.text and "<" not in answer.text
    assert "set-cookie" not in answer.headers
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS


@pytest.mark.parametrize("path", PATHS)
def test_without_the_key_nothing_is_shown(stranger, first_seed, path):
    refused(stranger.get(path.format(key=first_seed.key)), 403, "its token is the key")


@pytest.mark.parametrize("token", ["wrong", "", "%FF%C3%A9", "a" * 9000])
def test_a_wrong_token_is_refused(stranger, token):
    refused(stranger.get(f"/?token={token}"), 403, "is not (or no longer) the server's")


def test_a_wrong_token_is_refused_beside_a_right_cookie(client):
    refused(client.get("/?token=wrong"), 403, "no longer")


def test_the_token_is_exchanged_for_a_cookie_that_scripts_and_other_sites_cant_use(stranger, access, first_seed):
    answer = stranger.get(f"/studies/{first_seed.key}?token={access.token}&x=1")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/studies/{first_seed.key}?x=1")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("rankscope-8765=") and {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    assert access.token not in cookie and access.token not in answer.headers["location"]
    assert stranger.get("/").status_code == 200


def test_the_token_leads_to_no_other_host(stranger, access):
    for path in ("//evil.example/x", "/%2Fevil.example", "/%5Cevil.example"):
        answer = stranger.get(f"http://127.0.0.1:8765{path}?token={access.token}")
        assert re.match(r"/(?![/\\])", answer.headers["location"])


def test_what_a_browser_is_started_with_works_once(stranger, access):
    address = access.once()
    assert stranger.get(address).status_code == 303
    stranger.cookies.clear()
    refused(stranger.get(address), 403, "no longer")
    assert stranger.get(f"/?token={access.token}").status_code == 303


def test_another_servers_cookie_opens_nothing(stranger):
    for name, value in (("rankscope-8765", "x"), ("rankscope-8765", ""), (Pass(9).cookie_name, Pass(9)._cookie)):
        stranger.cookies.clear()
        stranger.cookies.set(name, value)
        refused(stranger.get("/"), 403, "its token is the key")


HOSTS = ["evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:80", "localhost:8766", "", "127.0.0.1:8765.evil"]


@pytest.mark.parametrize("host", HOSTS)
def test_another_host_is_refused_even_with_the_key(client, access, host):
    refused(client.get(f"/?token={access.token}", headers={"Host": host}), 400, "own name only")
    refused(client.get("/", headers={"Host": host}), 400, "own name only")


def test_both_own_names_are_answered(client):
    for host in ("127.0.0.1:8765", "localhost:8765", "LOCALHOST:8765"):
        assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
def test_nothing_can_be_written(client, first_seed, method):
    for path in ("/", f"/api/studies/{first_seed.key}/state"):
        answer = client.request(method, path)
        refused(answer, 405, "read-only")
        assert answer.headers["allow"] == "GET, HEAD"


def test_nothing_is_told_to_other_origins(client):
    answer = client.get("/api/studies", headers={"Origin": "http://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/studies/../../../etc/passwd", "/studies/..%2F..%2Fetc%2Fpasswd", "/studies/",
                                  "/studies/zz", "/api/studies/zz/state", "/static/x.js", "/runs/rankscope.db",
                                  "/api/studies/' OR 1=1 --/state", "/openapi.json"])  # fmt: skip
def test_what_is_no_study_is_not_there(client, path):
    refused(client.get(path), 404, "nothing here")


def test_head_is_read_like_get(client):
    answer = client.head("/")
    assert answer.status_code == 200 and answer.content == b""


def test_the_pages_policy_runs_its_own_scripts_and_none_other(client, first_seed):
    for path in ("/", f"/studies/{first_seed.key}"):
        answer = client.get(path)
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert "unsafe" not in policy["script-src"]
        assert len(policy["script-src"].split()) == len(scripts_of(answer.text)) > 0
        assert policy["default-src"] == policy["frame-ancestors"] == "'none'" and policy["connect-src"] == "'self'"
        assert "<meta http-equiv" not in answer.text


def test_a_studys_title_can_end_no_script(client, first_seed):
    for path in ("/", f"/studies/{first_seed.key}"):
        text = client.get(path).text
        assert "alert(1)</script>" not in text and "Made &lt;/script&gt;" in text


def test_the_port_is_the_usual_one_or_a_free_one_and_a_taken_one_is_an_error():
    first = listen(0)
    taken = first.getsockname()[1]
    first.listen()
    try:
        assert first.getsockname()[0] == "127.0.0.1"
        with pytest.raises(InputError, match=f"can't listen on port {taken} of 127.0.0.1.*--port 0"):
            listen(taken)
        with listen(None) as usual, socket.socket() as client:
            assert 8765 <= usual.getsockname()[1] < 8785
            usual.listen()
            client.connect(usual.getsockname())
    finally:
        first.close()
