"""The proxy: the same API with budgets, and never in the way."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import requests
from aiohttp import web

from prunepolicy.cli import main
from prunepolicy.commands.think.fit import fit_router
from prunepolicy.commands.think.proxy import RoutingProxy, open_router
from prunepolicy.policy.kinds.router import Router
from prunepolicy.pruning.errors import UsageError

EASY, HARD = "What is 12?", "What is 83 * 97 - 11 * 13?"


@pytest.fixture(scope="module")
def router(rollouts: Path, tmp_path_factory: pytest.TempPathFactory) -> Router:
    folder = tmp_path_factory.mktemp("fitted") / "router"
    fit_router(rollouts, folder, 0.99)
    return open_router(str(folder))


@pytest.fixture
def proxy(server: Any, router: Router, running_server: Callable[[web.Application], Any]) -> Iterator[str]:
    with running_server(RoutingProxy(router, server.url).application()) as url:
        yield url


@pytest.fixture
def client(proxy: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=proxy, api_key="secret-7", max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, text: str, **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": text}]
    return client.chat.completions.with_raw_response.create(
        **{"model": "served", "messages": messages, **more}
    )


def post(proxy: str, body: Any, **more: Any) -> requests.Response:
    return requests.post(f"{proxy}/chat/completions", **({"json": body, "timeout": 20} | more))


def test_budgets_follow_the_prompt_and_headers_say_so(client: openai.OpenAI, server: Any) -> None:
    for text, budget in ((EASY, "0"), (HARD, "2048")):
        raw = ask(client, text)
        assert raw.parse().choices[0].message.content == f"I think {budget}."
        assert raw.headers["x-prunepolicy-budget"] == budget
        assert re.match(rf"{budget}: (1\.00|0\.9\d) right for ", raw.headers["x-prunepolicy-reason"])
        assert raw.headers["x-prunepolicy-router"] == "router"
    assert [body["thinking_token_budget"] for body in server.bodies] == [0, 2048]
    assert {headers["Authorization"] for _, headers in server.requests} == {"Bearer secret-7"}


def test_answers_stream_part_by_part(client: openai.OpenAI, server: Any) -> None:
    stream = client.chat.completions.create(
        model="served", messages=[{"role": "user", "content": HARD}], stream=True
    )
    began, times, said = time.monotonic(), [], []
    for chunk in stream:
        times.append(time.monotonic() - began)
        said.append(chunk.choices[0].delta.content)
    assert said == ["I", " think ", "2048", "."]
    assert times[0] < times[-1], "it came all at once"


def test_fields_that_nobody_here_knows_arrive(proxy: str, server: Any) -> None:
    body = {
        "model": "served",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": HARD}, {"type": "odd", "é": [1]}]}
        ],
        "new_field": {"deep": [1, 2.5, None, "ü"]},
        "seed": 2**63,
    }
    answer = post(proxy, body, headers={"X-Custom": "kept"}, params={"version": "7"})
    assert answer.headers["x-prunepolicy-budget"] == "2048"
    assert server.bodies == [{**body, "thinking_token_budget": 2048}]
    assert server.requests[0][1]["X-Custom"] == "kept"


def test_what_the_client_says_about_thinking_holds(client: openai.OpenAI, server: Any) -> None:
    raw = ask(client, HARD, extra_body={"thinking_token_budget": 7})
    assert raw.headers["x-prunepolicy-budget"] == "unchanged"
    assert raw.headers["x-prunepolicy-reason"] == "the request says itself how much to think"
    raw = ask(client, HARD, model="another")
    assert raw.headers["x-prunepolicy-reason"] == "the router learned from another model"
    assert [body.get("thinking_token_budget") for body in server.bodies] == [7, None]


@pytest.mark.parametrize(
    "body",
    [
        b"no JSON",
        b'"text"',
        b"[" * 100_000,
        b'{"model": "served"}',
        b'{"model": "served", "messages": []}',
        b'{"model": "served", "messages": 5}',
        b'{"model": "served", "messages": [{"role": "user", "content": " "}]}',
        b'{"model": "served", "messages": [{"role": "user", "content": {"no": "list"}}]}',
        b'{"model": "served", "messages": [{"content": "\\ud800"}]}',
        b"\xff\xfe",
        b"",
    ],
)
def test_what_cant_be_routed_passes_byte_by_byte(body: bytes, router: Router, server: Any) -> None:
    routed = RoutingProxy(router, server.url).routed(body)
    assert (routed.body, routed.budget) == (body, None)
    assert routed.reason


def test_a_router_that_fails_leaves_the_request_as_it_is(
    client: openai.OpenAI, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Router, messages: Any) -> Any:
        raise ZeroDivisionError(f"no way: {messages}")

    monkeypatch.setattr(Router, "decide", fails)
    raw = ask(client, HARD)
    assert raw.parse().choices[0].message.content == "I think freely."
    assert raw.headers["x-prunepolicy-reason"] == "the router failed: ZeroDivisionError"


def test_a_server_that_refuses_the_budget_gets_the_plain_request(client: openai.OpenAI, server: Any) -> None:
    parrot = server.answer

    async def strict(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if "thinking_token_budget" in body:
            return web.json_response({"error": {"message": "unknown field"}}, status=400)
        return await parrot(request, body)  # type: ignore[no-any-return]

    server.answer = strict
    raw = ask(client, HARD)
    assert raw.parse().choices[0].message.content == "I think freely."
    assert raw.headers["x-prunepolicy-reason"] == "the server refused the budget 2048"
    assert len(server.requests) == 2


def test_errors_of_the_server_reach_the_client(client: openai.OpenAI, server: Any) -> None:
    async def busy(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"error": {"message": "busy"}}, status=429, headers={"Retry-After": "9"})

    server.answer = busy
    with pytest.raises(openai.RateLimitError, match="busy") as caught:
        ask(client, HARD)
    assert caught.value.response.headers["Retry-After"] == "9"


def test_a_server_that_isnt_there_is_a_bad_gateway(
    router: Router, running_server: Callable[[web.Application], Any]
) -> None:
    with running_server(RoutingProxy(router, "http://127.0.0.1:9/v1").application()) as url:
        answer = post(url, {"model": "served", "messages": [{"role": "user", "content": HARD}]})
    assert answer.status_code == 502
    assert "http://127.0.0.1:9/v1 can't be reached" in answer.json()["error"]["message"]
    assert HARD not in answer.text


def test_half_an_answer_looks_like_one(proxy: str, server: Any) -> None:
    async def half(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"data: {}\n\n")
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.abort()
        return response

    server.answer = half
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        post(proxy, {"model": "served", "messages": [{"role": "user", "content": HARD}]})


def test_a_client_that_goes_takes_its_request_along(proxy: str, server: Any) -> None:
    async def slow(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(30)
        raise AssertionError

    server.answer = slow
    with pytest.raises(requests.exceptions.ReadTimeout):
        post(proxy, {"model": "served", "messages": [{"role": "user", "content": HARD}]}, timeout=0.5)
    limit = time.monotonic() + 10
    while not server.cancelled and time.monotonic() < limit:
        time.sleep(0.02)
    assert server.cancelled == 1


def test_everything_else_passes_as_it_is(proxy: str, client: openai.OpenAI, server: Any) -> None:
    assert requests.get(f"{proxy}/models?limit=3", timeout=20).json() == {
        "path": "/v1/models", "query": "limit=3", "said": ""
    }  # fmt: skip
    root = proxy.removesuffix("/v1")
    assert requests.get(f"{root}/health", timeout=20).json()["path"] == "/health"
    packed = requests.post(
        f"{proxy}/embeddings", data=gzip.compress(b"text"), headers={"Content-Encoding": "gzip"}, timeout=20
    )
    assert packed.json()["said"] == "text"
    assert "x-prunepolicy-budget" not in packed.headers


def test_packed_answers_stay_packed(proxy: str, server: Any) -> None:
    async def packed(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        data = gzip.compress(json.dumps({"said": "packed"}).encode())
        return web.Response(
            body=data, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"}
        )

    server.answer = packed
    answer = post(proxy, {"model": "served", "messages": [{"role": "user", "content": HARD}]})
    assert (answer.headers["Content-Encoding"], answer.json()) == ("gzip", {"said": "packed"})


def test_two_hundred_streams_at_a_time(proxy: str, server: Any) -> None:
    async def one(session: aiohttp.ClientSession, number: int) -> tuple[str, str]:
        text = HARD if number % 2 else EASY
        body = {"model": "served", "stream": True, "messages": [{"role": "user", "content": text}]}
        async with session.post(f"{proxy}/chat/completions", json=body) as answer:
            return answer.headers["x-prunepolicy-budget"], (await answer.text())[-14:]

    async def every() -> list[tuple[str, str]]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            return await asyncio.gather(*(one(session, number) for number in range(200)))

    parrot, open_now, most = server.answer, 0, 0

    async def counted(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        while most < 200:
            await asyncio.sleep(0.01)
        return await parrot(request, body)  # type: ignore[no-any-return]

    server.answer = counted
    answers = asyncio.run(asyncio.wait_for(every(), 60))
    assert most == 200
    assert answers == [("2048" if n % 2 else "0", "data: [DONE]\n\n") for n in range(200)]


def test_prompts_are_logged_only_when_asked_for(
    router: Router, server: Any, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps({"model": "served", "messages": [{"role": "user", "content": HARD}]}).encode()
    with caplog.at_level("DEBUG"):
        RoutingProxy(router, server.url).routed(body)
    assert HARD not in caplog.text + "".join(capfd.readouterr())
    lines: list[str] = []
    RoutingProxy(router, server.url, lines.append).routed(body)
    assert len(lines) == 1
    assert HARD in lines[0]


def test_only_routers_are_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="policy of the kind heuristic"):
        open_router("magnitude")
    assert main(["think", "serve", "magnitude", "--upstream", "http://127.0.0.1:9/v1"]) == 2
    assert "`prunepolicy think fit` makes routers" in capsys.readouterr().err
