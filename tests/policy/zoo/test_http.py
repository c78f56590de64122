"""A web server that truncates, stalls, lies, redirects and goes away: all or nothing, and one sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunepolicy.cli import main
from prunepolicy.policy.load import load_policy
from prunepolicy.policy.zoo.cache import zoo_cache
from prunepolicy.policy.zoo.pull import find_policy, pull
from prunepolicy.policy.zoo.signing import public_text
from prunepolicy.policy.zoo.sources import http as http_source
from prunepolicy.policy.zoo.zoo_handle import Zoo
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

ROWS = "tiny-rows.v1"
WEIGHTS = f"/{ROWS}/weights.safetensors"
CARD = f"/{ROWS}/README.md"
Names = Callable[[], list[str]]


def truncated(handler: Any, content: bytes) -> None:
    handler.answer(200, content[: len(content) // 2], length=len(content))


def cut_ranges(handler: Any, content: bytes) -> None:
    """Give ten more bytes every time."""
    start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
    place = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
    part = content[start : start + 10]
    handler.answer(206 if start else 200, part, place, length=len(content) - start)


def stalled(handler: Any, content: bytes) -> None:
    handler.answer(200, content[:5], length=len(content))
    handler.server.over.wait(5)


def trickling(handler: Any, content: bytes) -> None:
    handler.answer(200, b"", length=len(content))
    for byte in content:
        if handler.server.over.wait(0.1):
            return
        handler.wfile.write(bytes([byte]))


def silent(handler: Any, content: bytes) -> None:
    handler.server.over.wait(5)


def longer_than_listed(handler: Any, content: bytes) -> None:
    handler.answer(200, content + b"more")


def endless(handler: Any, content: bytes) -> None:
    handler.answer(200, b"", length="")
    while not handler.server.over.is_set():
        handler.wfile.write(b"x" * 65536)


def shorter_than_said(handler: Any, content: bytes) -> None:
    handler.answer(200, content, length=len(content) + 5)


def senseless_length(handler: Any, content: bytes) -> None:
    handler.answer(200, content[:-1] + b"?", length="-1")


def another_file(handler: Any, content: bytes) -> None:
    handler.answer(200, bytes(byte ^ 1 for byte in content))


def compressed(handler: Any, content: bytes) -> None:
    import gzip

    handler.answer(200, gzip.compress(content), {"Content-Encoding": "gzip"})


def another_part(handler: Any, content: bytes) -> None:
    if handler.headers.get("Range"):
        handler.answer(206, content[:10], {"Content-Range": f"bytes 0-9/{len(content)}"})
    else:
        truncated(handler, content)


def hanging_up(handler: Any, content: bytes) -> None:
    handler.connection.close()


def babbling(handler: Any, content: bytes) -> None:
    handler.wfile.write(b"\xff\x00" * 5000 + b"\r\n\r\n")


def header_bomb(handler: Any, content: bytes) -> None:
    handler.send_response(200)
    for number in range(500):
        handler.send_header(f"X-{number}", "x" * 1000)
    handler.end_headers()


def endless_redirect(handler: Any, content: bytes) -> None:
    handler.answer(302, b"", {"Location": WEIGHTS}, length="")
    endless_body(handler)


def endless_body(handler: Any) -> None:
    while not handler.server.over.is_set():
        handler.wfile.write(b"x" * 65536)
        handler.server.bodies += 1


def trickling_headers(handler: Any, content: bytes) -> None:
    handler.send_response(200)
    handler.flush_headers()
    while not handler.server.over.wait(0.05):
        handler.wfile.write(b"X-More: x\r\n")


def endless_continues(handler: Any, content: bytes) -> None:
    while not handler.server.over.wait(0.01):
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def status(code: int) -> Callable[[Any, bytes], None]:
    return lambda handler, content: handler.answer(code, b"")


def redirect(target: str) -> Callable[[Any, bytes], None]:
    return lambda handler, content: handler.answer(302, b"", {"Location": target})


INTERRUPTED = {
    "truncated": truncated, "stalled": stalled, "silent": silent, "hanging up": hanging_up,
    "trickling": trickling, "babbling": babbling, "503": status(503), "header bomb": header_bomb,
    "trickling headers": trickling_headers, "endless continues": endless_continues,
}  # fmt: skip
WRONG = {
    "longer than listed": longer_than_listed, "shorter than said": shorter_than_said, "endless": endless,
    "senseless length": senseless_length, "another file": another_file, "compressed": compressed,
    "another part": another_part, "404": status(404), "403": status(403), "204": status(204),
    "416": status(416), "to files": redirect("file:///etc/passwd"), "to FTP": redirect("ftp://127.0.0.1/x"),
    "to data": redirect("data:text/plain,x"), "to itself": redirect(WEIGHTS),
    "endless redirect": endless_redirect,
    "to nothing": redirect("http://"), "to nowhere": redirect("http://[::1"),
    "to control characters": redirect("http://127.0.0.1/\x01x"),
}  # fmt: skip


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that has to fail, and return its one sentence."""
    capsys.readouterr()
    assert main(["zoo", *arguments]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert said.err.strip().isprintable()
    assert "PRUNEPOLICY_DEBUG" not in said.err
    return said.err


@pytest.mark.parametrize("name", [*INTERRUPTED, *WRONG])
def test_a_misbehaving_server_leaves_nothing_installed(
    name: str, server: Any, installed: Names, hurried: None, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behaviours[WEIGHTS] = {**INTERRUPTED, **WRONG}[name]
    said = refused(capsys, "pull", ROWS, "--source", server.address)
    assert installed() == []
    if name in INTERRUPTED:
        assert "run again to continue" in said
        assert len([path for path, _ in server.asked if path == WEIGHTS]) == 2
    del server.behaviours[WEIGHTS]
    assert main(["zoo", "pull", ROWS, "--source", server.address]) == 0
    assert installed() == [ROWS]


@pytest.mark.parametrize(
    "name", ["truncated", "stalled", "babbling", "header bomb", "endless", "another file", "404", "to files"]
)
def test_a_server_that_misbehaves_about_its_index_is_refused(
    name: str, server: Any, hurried: None, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behaviours["/index.signed"] = {**INTERRUPTED, **WRONG}[name]
    refused(capsys, "list", "--source", server.address)
    assert not (zoo_cache() / "indexes").exists() or not list((zoo_cache() / "indexes").glob("*.signed"))


def test_the_body_of_a_redirect_is_not_read(server: Any, hurried: None) -> None:
    server.behaviours["/index.signed"] = endless_redirect
    with pytest.raises(PrunePolicyError):
        Zoo.open(server.address)
    assert server.bodies < 1000  # what fits into buffers of the system


def test_another_file_goes_to_quarantine_with_its_hash_unmatched(
    server: Any, quarantined: Names, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behaviours[CARD] = another_file
    said = refused(capsys, "pull", ROWS, "--source", server.address)
    assert "isn't the file that the index lists" in said
    assert len(quarantined()) == 1
    assert str(zoo_cache() / "quarantine" / quarantined()[0]) in said


def test_a_download_that_breaks_off_continues_where_it_was(server: Any) -> None:
    server.behaviours[WEIGHTS] = [cut_ranges, hanging_up, cut_ranges]
    pull(Zoo.open(server.address), ROWS)
    assert [part for path, part in server.asked if path == WEIGHTS] == [
        None,
        "bytes=10-",
        "bytes=10-",
        "bytes=20-",
    ]


def test_a_later_run_continues_what_an_earlier_one_left(server: Any) -> None:
    server.behaviours[WEIGHTS] = [cut_ranges, hanging_up, hanging_up, hanging_up]
    with pytest.raises(
        PrunePolicyError, match=r"10 of [\d,]+ bytes of tiny-rows.v1/weights.safetensors are kept"
    ):
        pull(Zoo.open(server.address), ROWS)
    server.asked.clear()
    pull(Zoo.open(server.address), ROWS)
    assert [part for path, part in server.asked if path == WEIGHTS] == ["bytes=10-"]
    assert [path for path, _ in server.asked if path == CARD] == []


def test_a_server_without_ranges_starts_anew(server: Any) -> None:
    whole = lambda handler, content: handler.answer(200, content)  # noqa: E731
    server.behaviours[WEIGHTS] = [cut_ranges, whole]
    assert load_policy(pull(Zoo.open(server.address), ROWS)).name == ROWS


def test_a_beginning_that_is_of_another_file_is_thrown_away(server: Any, quarantined: Names) -> None:
    bad_start = lambda handler, content: handler.answer(200, b"?" * 40, length=len(content))  # noqa: E731
    server.behaviours[WEIGHTS] = [bad_start, hanging_up, hanging_up, hanging_up]
    with pytest.raises(PrunePolicyError, match="40 of"):
        pull(Zoo.open(server.address), ROWS)
    assert load_policy(pull(Zoo.open(server.address), ROWS)).name == ROWS
    assert quarantined() == []


def test_redirects_are_followed_within_limits(server: Any, serve: Any, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "w").write_bytes((server.root / WEIGHTS[1:]).read_bytes())
    other = serve(elsewhere)
    for step in range(4):
        server.behaviours[f"/step{step}"] = redirect(f"/step{step + 1}" if step < 3 else f"{other.address}/w")
    server.behaviours[WEIGHTS] = redirect("/step0")
    assert load_policy(pull(Zoo.open(server.address), ROWS)).name == ROWS
    for step in range(3, 7):
        server.behaviours[f"/step{step}"] = redirect(f"/step{step + 1}")
    with (
        pytest.raises(PrunePolicyError, match="redirects too often"),
        http_source.Http(server.address).open("step0"),
    ):
        pass


def test_https_is_never_left_for_http() -> None:
    request = http_source.urllib.request.Request("https://zoo.example/x")
    handler, body = http_source._Redirects(), open(os.devnull, "rb")
    with pytest.raises(PrunePolicyError, match="from https to http, which isn't followed"):
        handler.redirect_request(
            request, body, 302, "", http_source.http.client.HTTPMessage(), "http://zoo.example/x"
        )


def test_secrets_stay_with_their_host() -> None:
    for target, kept in (("https://zoo.example/y", True), ("https://cdn.example/y", False)):
        request = http_source.urllib.request.Request(
            "https://zoo.example/x", headers={"Authorization": "Bearer x"}
        )
        handler = http_source._Redirects()
        with open(os.devnull, "rb") as body:
            new = handler.redirect_request(
                request, body, 302, "", http_source.http.client.HTTPMessage(), target
            )
        assert new is not None
        assert new.has_header("Authorization") is kept


def test_what_was_pulled_works_without_network(
    server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRUNEPOLICY_ZOO", server.address)
    assert load_policy("zoo:tiny-rows").name == ROWS
    server.asked.clear()
    assert load_policy("zoo:tiny-rows.v1").name == ROWS
    assert server.asked == []
    for switch in ("PRUNEPOLICY_OFFLINE", "HF_HUB_OFFLINE"):
        with monkeypatch.context() as patch:
            patch.setenv(switch, "1")
            assert main(["zoo", "list"]) == 0
            assert main(["zoo", "pull", ROWS]) == 0
            assert "forbids a download" in refused(capsys, "pull", "tiny-fisher")
            patch.setenv("PRUNEPOLICY_ZOO", "http://127.0.0.1:9/never")
            assert "was never read and the network is forbidden" in refused(capsys, "list")
    assert server.asked == []


def test_an_unreachable_server_is_named_and_what_still_works(
    server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "PRUNEPOLICY_OFFLINE" not in refused(capsys, "list", "--source", "http://127.0.0.1:9/zoo")
    Zoo.open(server.address)
    server.behaviours["/index.signed"] = hanging_up
    assert "With PRUNEPOLICY_OFFLINE=1" in refused(capsys, "list", "--source", server.address)


def test_an_old_index_is_not_passed_off_as_the_current_one(server: Any, put: Any) -> None:
    old = (server.root / "index.signed").read_bytes()
    put(server.root, "tiny-rows.v2")
    assert len(Zoo.open(server.address).index.policies) == 3
    server.behaviours["/index.signed"] = lambda handler, content: handler.answer(200, old)
    with pytest.raises(PrunePolicyError, match=r"older index \(serial 2\) than it has shown before \(3\)"):
        Zoo.open(server.address)


@pytest.mark.parametrize("spelling", ["http://", "http://x/?a", "http://x/#a", "http://me:pw@x/", "ftp://x/"])
def test_addresses_that_are_none_are_refused(spelling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNEPOLICY_ZOO", spelling)
    with pytest.raises(UsageError, match=r"is no (address|source)"):
        find_policy("x")


FORKING = """
import os, sys
from prunepolicy.policy.load import load_policy
for line in sys.stdin:
    child = os.fork()
    if not child:
        os._exit(load_policy("zoo:tiny-rows").name != "tiny-rows.v1")
    print(child, flush=True)
while True:
    try:
        print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
    except ChildProcessError:
        break
"""
"""A process that loads the policy in a child of its own for every line it reads, and tells how they ended."""


def test_two_processes_that_pull_at_once_and_one_that_is_killed(
    server: Any, key: Any, installed: Names
) -> None:
    server.behaviours[WEIGHTS] = [cut_ranges, silent, silent, silent]
    settings = {"PRUNEPOLICY_ZOO": server.address, "PRUNEPOLICY_ZOO_KEYS": public_text(key)}
    command = [sys.executable, "-c", FORKING]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, **settings}, **pipes) as process:
        process.stdin.write("one\n")
        process.stdin.flush()
        killed, deadline = int(process.stdout.readline()), time.monotonic() + 60
        while len([path for path, _ in server.asked if path == WEIGHTS]) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(killed, signal.SIGKILL)
        assert installed() == []
        server.behaviours.clear()
        server.asked.clear()
        said, _ = process.communicate("two\nthree\n", timeout=120)
    assert sorted(said.split()[2:]) == ["-9", "0", "0"]
    assert [part for path, part in server.asked if path == WEIGHTS] == ["bytes=10-"]
    assert installed() == [ROWS]
