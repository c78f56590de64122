"""What the routing proxy costs: streams through it beside streams without it, in turn, from one client.

A stand-in server sends parts at a fixed pace and writes into each when it left; so the client knows how long
every part took, and how long it waited for the first. Server, proxy and client are processes of their own on
this machine, which should have three idle cores; CPU times of server and proxy are noted as well, as a busy
machine changes them little. Takes five minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
import torch
from aiohttp import web

from prunepolicy.policy.kinds.router import Router, RouterConfig
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import device_name, versions
from prunepolicy.pruning.io.temporary import temporary_folder

STREAMS, ROUNDS, SECONDS = (20, 200), 5, 12.0
"""Streams at a time; rounds of either way in turn; seconds of a round."""
PARTS, PACE = 20, 0.2
"""Parts of an answer, and seconds between them."""
PROMPT = "A train leaves at 7:45 with 120 people; at each of 9 stops 3 get off and 5 get on. How many? " * 20
RESULT = Path(__file__).parents[1] / "results" / "router_overhead.json"
WAYS = ("direct", "router")


async def answer(request: web.Request) -> web.StreamResponse:
    """Send parts at a fixed pace, each with the moment at which it leaves."""
    await request.read()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(PARTS):
        await response.write(f"data: {time.perf_counter()}\n\n".encode())
        await asyncio.sleep(PACE)
    return response


def stand_in(port: int) -> None:
    """Be the server."""
    application = web.Application()
    application.router.add_post("/v1/chat/completions", answer)
    web.run_app(application, host="127.0.0.1", port=port, print=None, access_log=None, backlog=1024)


async def stream(
    session: aiohttp.ClientSession, address: str, firsts: list[float], parts: list[float]
) -> None:
    """Read one answer, and note how long its first part and every part took, in seconds."""
    body = {"model": "served", "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
    began, waited = time.perf_counter(), False
    async with session.post(f"{address}/chat/completions", json=body) as response:
        async for line in response.content:
            if line.startswith(b"data: "):
                now = time.perf_counter()
                parts.append(now - float(line[6:]))
                if not waited:
                    firsts.append(now - began)
                    waited = True


async def load(address: str, streams: int, seconds: float) -> dict[str, Any]:
    """Keep so many streams open for a while, and return percentiles in milliseconds."""
    firsts: list[float] = []
    parts: list[float] = []
    end = time.perf_counter() + seconds

    async def client(number: int, session: aiohttp.ClientSession) -> None:
        await asyncio.sleep(number / streams * PARTS * PACE)  # as they come in practice, not all at once
        while time.perf_counter() < end:
            await stream(session, address, firsts, parts)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(client(number, session) for number in range(streams)))
    found: dict[str, Any] = {"answers": len(firsts), "parts": len(parts)}
    for name, values in (("first", firsts), ("part", parts)):
        for percentile in (50, 99):
            found[f"{name}_p{percentile}"] = float(np.percentile(values, percentile) * 1000)
    return found


@contextmanager
def process(command: list[str], port: int) -> Iterator[tuple[str, psutil.Process]]:
    """Run a server until the block ends, and yield its address and itself."""
    running = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if running.poll() is not None or time.monotonic() > limit:
                    raise
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1", psutil.Process(running.pid)
    finally:
        running.terminate()
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            running.kill()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def router_in(folder: Path) -> str:
    """Write a router with random numbers, which takes as long to decide as any."""
    torch.manual_seed(0)
    config = RouterConfig(model="served", weight=1e-4)
    numbers = {name: torch.rand_like(n) + 0.5 for name, n in Router(config).weights().items()}
    Router(config, "random", numbers).save(folder)
    return f"{folder}{os.sep}"


def measured(streams: tuple[int, ...], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Return a row per number of streams, round and way."""
    rows = []
    server, proxy = free_port(), free_port()
    with temporary_folder() as folder:
        serve = ["think", "serve", router_in(folder), "--upstream", f"http://127.0.0.1:{server}/v1"]
        call = f"from prunepolicy.cli import main; main({[*serve, '--port', str(proxy)]!r})"
        with (
            process([sys.executable, __file__, "--stand-in", str(server)], server) as direct,
            process([sys.executable, "-c", call], proxy) as routed,
        ):
            for count in streams:
                for number in range(rounds):
                    for way, (address, served) in zip(WAYS, (direct, routed), strict=True):
                        before = sum(served.cpu_times()[:2])
                        found = asyncio.run(load(address, count, seconds))
                        spent = (sum(served.cpu_times()[:2]) - before) / found["answers"] * 1000
                        row = {"streams": count, "round": number, "way": way, "cpu_ms": spent, **found}
                        rows.append({**row, "load": os.getloadavg()[0]})
                        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--stand-in", type=int, help="port to be the server on; measures nothing")
    arguments = parser.parse_args()
    if arguments.stand_in is not None:
        stand_in(arguments.stand_in)
        return
    began = time.time()
    rows = measured(STREAMS, arguments.rounds, arguments.seconds)
    result = {
        "machine": device_name(torch.device("cpu")),
        "versions": versions("prunepolicy", "aiohttp"),
        "cores": os.cpu_count(),
        "parts": PARTS,
        "pace": PACE,
        "prompt": len(PROMPT),
        "seconds": time.time() - began,
        "rows": rows,
    }
    write_text(arguments.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
