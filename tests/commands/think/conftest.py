"""A server that speaks the API, in a thread of this process, and behaves as a test wants it to."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from prunepolicy.agents.thinking.router.rollout_file import Rollout, RolloutHead

Answer = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]
BUDGETS = (0, 512, 2048)
MODEL = "served"


def completion(text: str, tokens: int = 3, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}
    return {
        "id": "1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice],
        "usage": usage, **more,
    }  # fmt: skip


async def parrot(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Say how much the request allows to think, in parts where it wants a stream."""
    said = ["I", " think ", str(body.get("thinking_token_budget", "freely")), "."]
    if not body.get("stream"):
        return web.json_response(completion("".join(said)))
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for part in said:
        choice = {"index": 0, "delta": {"content": part}, "finish_reason": None}
        event = {
            "id": "1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]
        }  # fmt: skip
        await response.write(f"data: {json.dumps(event)}\n\n".encode())
        await asyncio.sleep(0.01)
    await response.write(b"data: [DONE]\n\n")
    return response


@dataclass
class FakeServer:
    """What it was asked, and what it answers."""

    url: str = ""
    answer: Answer = parrot
    requests: list[tuple[dict[str, Any], dict[str, str]]] = field(default_factory=list)
    cancelled: int = 0

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [body for body, _ in self.requests]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        if not request.path.endswith("/chat/completions"):
            return web.json_response({"path": request.path, "query": request.query_string, "said": text})
        body = json.loads(text) if text.startswith("{") else {"text": text}
        self.requests.append((body, dict(request.headers)))
        try:
            return await self.answer(request, body)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@contextmanager
def running(application: web.Application) -> Iterator[str]:
    """Serve an application in a thread, and yield its address."""
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    place: list[str] = []

    async def main() -> None:
        runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        place.append(f"http://127.0.0.1:{runner.addresses[0][1]}/v1")
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),), daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield place[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


@pytest.fixture
def running_server() -> Callable[[web.Application], Any]:
    return running


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", fake.handle)
    with running(application) as fake.url:
        yield fake


@pytest.fixture(scope="session")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers of a model that needs no thought for small numbers and 2,000 tokens for large ones."""
    count, file = 120, tmp_path_factory.mktemp("collected") / "rollouts.jsonl"
    hard = [number % 2 for number in range(count)]
    prompts = [
        ({"role": "user", "content": f"What is {'83 * 97 - 11 * ' if hard[n] else ''}{n}?"},)
        for n in range(count)
    ]
    head = RolloutHead(
        model=MODEL, control="thinking_token_budget", budgets=BUDGETS, samples=2, seed=0, verifier="integer",
        sampling={}, prompts=tuple(prompts), answers=("1",) * count,
    )  # fmt: skip
    lines = [head.model_dump_json()]
    for number, budget, sample in head.keys:
        right = budget == 2048 or not hard[number]
        rollout = Rollout(
            prompt=number, budget=budget, sample=sample, correct=right, tokens=budget + 10, seconds=0.5
        )
        lines.append(rollout.model_dump_json())
    file.write_text("\n".join(lines) + "\n")
    return file
