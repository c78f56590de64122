"""A served model's answers: every one asked once, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from prunepolicy.agents.thinking.router.rollout_file import Rollout, read_rollouts
from prunepolicy.cli import main
from prunepolicy.commands.think import chat_client
from prunepolicy.commands.think.collect import Collection, budgets_named, collect
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

pytestmark = pytest.mark.usefixtures("_no_pauses")


@pytest.fixture
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_client, "PAUSE", 0.001)


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    file = tmp_path / "problems.jsonl"
    lines = [{"question": f"{n} + {n}", "answer": 2 * n, "level": "a further column"} for n in range(5)]
    lines.append({"messages": [{"role": "system", "content": "Add."}, {"role": "user", "content": "1 + 1"}],
                  "answer": "2"})  # fmt: skip
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return file


def asked(server: Any, problems: Path, **more: Any) -> Collection:
    settings = {"budgets": (0, 64), "samples": 2, "verifier": "integer", "concurrency": 4, **more}
    return Collection(server.url, "served", problems, **settings)


async def adds(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Be right if there are tokens to think with."""
    a, b = map(int, body["messages"][-1]["content"].split(" + "))
    thought = body["thinking_token_budget"]
    text = f"<think>Hm.</think>The sum is \\boxed{{{a + b}}}." if thought else "<answer>99</answer>"
    return web.json_response(
        {
            "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
            "usage": {"completion_tokens": 5 + thought},
        }
    )


def test_every_problem_is_answered_with_every_budget_as_often_as_asked(
    server: Any, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = adds
    monkeypatch.setenv("MY_KEY", "secret-7")
    collection = asked(server, problems, sampling={"temperature": 0.6}, key_variable="MY_KEY")
    assert collect(collection, tmp_path / "out.jsonl") == 6 * 2 * 2
    head, rollouts = read_rollouts(tmp_path / "out.jsonl")
    assert [rollout.key for rollout in rollouts] == head.keys
    assert {(r.budget, r.correct, r.tokens) for r in rollouts} == {(0, False, 5.0), (64, True, 69.0)}
    assert all(body["temperature"] == 0.6 and body["model"] == "served" for body in server.bodies)
    assert len({body["seed"] for body in server.bodies}) == 24
    assert {headers["Authorization"] for _, headers in server.requests} == {"Bearer secret-7"}
    assert "secret-7" not in (tmp_path / "out.jsonl").read_text()


def test_an_interrupted_collection_asks_only_what_is_missing(
    server: Any, problems: Path, tmp_path: Path
) -> None:
    server.answer = adds
    out = tmp_path / "out.jsonl"
    collect(asked(server, problems), out)
    whole = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(whole[:10]) + whole[10][:20])
    server.requests.clear()
    assert collect(asked(server, problems), out) == 24
    assert len(server.requests) == 24 - 9
    again = {(r.key, r.correct, r.tokens) for r in read_rollouts(out)[1]}
    assert again == {(r.key, r.correct, r.tokens) for r in map(Rollout.model_validate_json, whole[1:])}
    server.requests.clear()
    collect(asked(server, problems), out)
    assert not server.requests
    with pytest.raises(UsageError, match="collected with other budgets, samples"):
        collect(asked(server, problems, budgets=(0, 32), samples=3), out)


def test_a_killed_collection_continues(server: Any, problems: Path, tmp_path: Path) -> None:
    async def slowly(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(0.15)
        return await adds(request, body)

    server.answer, out = slowly, tmp_path / "out.jsonl"
    command = (
        f"think collect --endpoint {server.url} --model served --problems {problems} --budgets 0,64 "
        f"--samples 2 --verifier integer --concurrency 1 --out {out}"
    ).split()
    call = f"from prunepolicy.cli import main; raise SystemExit(main({command!r}))"
    process = subprocess.Popen([sys.executable, "-c", call], stdout=subprocess.DEVNULL, env=dict(os.environ))
    limit = time.monotonic() + 60
    while time.monotonic() < limit and (not out.exists() or out.read_bytes().count(b"\n") < 4):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = len(read_rollouts(out)[1])
    assert 3 <= there < 24
    server.answer = adds
    server.requests.clear()
    assert main(command) == 0
    assert len(server.requests) == 24 - there


async def out_of_order(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return web.Response(status=503, text="loading\x1b[2J the model")


async def refused(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return web.json_response({"error": {"message": "unknown field"}}, status=400)


async def no_json(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return web.Response(text="<html>" + "[" * 100_000)


async def other_json(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return web.json_response({"choices": [], "usage": {"completion_tokens": -1}})


async def no_usage(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return web.json_response({"choices": [{"message": {"content": "2"}}]})


async def endless(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * (1 << 20))


async def silent(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


async def half(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": [')
    assert request.transport is not None
    request.transport.abort()
    return response


@pytest.mark.parametrize(
    ("answer", "words", "tries"),
    [
        (out_of_order, r"status 503: loading\[2J the model", 4),
        (refused, "status 400: .*unknown field", 1),
        (no_json, "doesn't answer in JSON", 4),
        (other_json, r"another form than the API's: choices", 4),
        (no_usage, r"another form than the API's: usage", 4),
        (endless, "more than 16,777,216 bytes", 4),
        (silent, r"no answer in 0.3 s \(--timeout\)", 4),
        (half, "can't be reached", 4),
    ],
)
def test_servers_that_dont_answer_end_it_with_a_sentence(
    answer: Any, words: str, tries: int, server: Any, problems: Path, tmp_path: Path
) -> None:
    server.answer = answer
    timeout = 0.3 if answer is silent else 20
    with pytest.raises(PrunePolicyError, match=words):
        collect(asked(server, problems, concurrency=1, timeout=timeout), tmp_path / "out.jsonl")
    assert len(server.requests) == tries
    server.answer = adds
    assert collect(asked(server, problems), tmp_path / "out.jsonl") == 24


def test_accidents_are_tried_again(server: Any, problems: Path, tmp_path: Path) -> None:
    async def every_third(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await (adds if len(server.requests) % 3 else out_of_order)(request, body)

    server.answer = every_third
    assert collect(asked(server, problems, concurrency=1), tmp_path / "out.jsonl") == 24


def test_what_cant_be_asked_is_refused_before_anything_is_written(
    server: Any, problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"question": "1 + 1"}\n')
    out = tmp_path / "out.jsonl"
    options = {"--endpoint": server.url, "--model": "m", "--problems": str(problems), "--out": str(out)}
    for changes, words in (
        ({"--endpoint": "localhost:8000"}, "--endpoint is an address"),
        ({"--budgets": "0"}, "at least two different budgets"),
        ({"--budgets": "low,high"}, "thinking_token_budget takes numbers of tokens from 0"),
        ({"--budgets": "0,5", "--control": "reasoning_effort"}, "reasoning_effort takes none, minimal"),
        ({"--control": "nothing"}, "Unknown budget control"),
        ({"--verifier": "nothing"}, "Unknown verifier"),
        ({"--problems": str(bad)}, "bad.jsonl, line 1 is no problem: answer"),
        ({"--problems": str(tmp_path / "none")}, "Can't read the problems"),
    ):
        words_of = [word for pair in {**options, **changes}.items() for word in pair]
        assert main(["think", "collect", *words_of]) == 2
        assert words in capsys.readouterr().err
    assert not out.exists()
    assert not server.requests


def test_lists_of_budgets_are_numbers_and_words() -> None:
    assert budgets_named("0, 512,high") == (0, 512, "high")
    with pytest.raises(UsageError, match="--budgets takes a list"):
        budgets_named(" , ")
