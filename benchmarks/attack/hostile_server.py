"""A zoo's web server that redirects in circles, trickles, lies about lengths, sends bombs: refused, and soon.

Every attempt draws a behaviour and which of the zoo's files gets it, at the first request or at a later one.
What is accepted must be the signed bytes; after a refusal nothing is installed.
"""

from __future__ import annotations

import gzip
import http.server
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos import FAILED, Counts, arguments, conclude, scratch_folder, verdict
from deeds import KEY, POLICIES, small_zoo

from prunepolicy.policy.zoo import pinned_keys, transfer
from prunepolicy.policy.zoo.cache import zoo_cache
from prunepolicy.policy.zoo.mirror import mirror
from prunepolicy.policy.zoo.pull import pull
from prunepolicy.policy.zoo.signing import public_text
from prunepolicy.policy.zoo.sources.http import Http, Patience
from prunepolicy.policy.zoo.zoo_handle import Zoo

SEED = 0
FLOOD = 256 << 20
"""Bytes after which an endless answer ends."""
PROMPT = Patience(silence=0.3, answer=0.6, whole=1.0)
Answer = Callable[["Handler", bytes, random.Random], None]


@dataclass
class Plan:
    """What the server does wrong: how, with which path, and after how many honest answers there."""

    answer: Answer
    path: str
    after: int
    drawn: random.Random


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves files, but for the plan's path."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """Answer."""
        self.close_connection = True
        path = self.path.partition("?")[0]
        file = self.server.root / path.lstrip("/")
        data = file.read_bytes() if file.is_file() else b""
        plan = self.server.plan
        if plan is not None and path.startswith(plan.path):
            plan.after -= 1
            if plan.after < 0:
                plan.answer(self, data, plan.drawn)
                return
        self.reply(200 if file.is_file() else 404, data)

    def reply(self, status: int, data: bytes, length: object = None, **headers: str) -> None:
        """Send an answer; `length` is what it claims, an empty text for nothing."""
        self.send_response(status)
        claimed = str(len(data) if length is None else length)
        for name, value in {"Content-Length": claimed, "Connection": "close", **headers}.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    """A web server on this machine."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.plan, self.over = root, None, threading.Event()

    plan: Plan | None

    @property
    def address(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


def circle(to: Handler, data: bytes, drawn: random.Random) -> None:
    """Redirect to itself, by the same name or by ever new ones."""
    place = to.path if drawn.random() < 0.5 else f"{to.path.partition('?')[0]}?{drawn.random()}"
    to.reply(drawn.choice((301, 302, 303, 307, 308)), b"", Location=place)


def elsewhere(to: Handler, data: bytes, drawn: random.Random) -> None:
    """Redirect to another scheme, host or nonsense."""
    places = (
        "file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "gopher://x", "http://[::1", "//", "\0",
        "http://", "http://127.0.0.1:1/x", "http://user:word@127.0.0.1:1/", "x" * 9000,
        "https://127.0.0.1:1/",
    )  # fmt: skip
    to.reply(302, b"", Location=drawn.choice(places))


def endless_redirect(to: Handler, data: bytes, drawn: random.Random) -> None:
    """Redirect with a body that doesn't end."""
    to.reply(302, b"", "", Location="/nowhere")
    flood(to)


def trickle_headers(to: Handler, data: bytes, drawn: random.Random) -> None:
    """Send headers a byte at a time."""
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000:
        if to.server.over.wait(0.05):
            return
        to.wfile.write(bytes([byte]))


def trickle_body(to: Handler, data: bytes, drawn: random.Random) -> None:
    """Send a body a byte at a time."""
    to.reply(200, b"", len(data) * 1000)
    while not to.server.over.wait(0.05):
        to.wfile.write(b"x")


def silence(to: Handler, data: bytes, drawn: random.Random) -> None:
    """Say nothing, at once or in the middle."""
    if drawn.random() < 0.5:
        to.reply(200, data[: drawn.randrange(len(data) + 1)], len(data) + 1)
    to.server.over.wait(3)


def endless(to: Handler, data: bytes, drawn: random.Random) -> None:
    """Send a body that doesn't end, whatever length is claimed."""
    to.reply(200, b"", drawn.choice(("", len(data), 10**12)))
    flood(to)


def short(to: Handler, data: bytes, drawn: random.Random) -> None:
    """Send less than claimed, or claim less."""
    cut = drawn.randrange(len(data) + 1)
    to.reply(200, data[:cut], drawn.choice((None, "", len(data))))


def wrong_length(to: Handler, data: bytes, drawn: random.Random) -> None:
    """Claim a length that is none, or another."""
    lengths = ("-1", "1e3", "٣", "0x10", "9" * 400, str(2**63), "0", str(len(data) + 1), " ", "1, 2")
    to.send_response(200)
    to.wfile.write(b"")
    to.send_header("Connection", "close")
    to._headers_buffer.append(f"Content-Length: {drawn.choice(lengths)}\r\n".encode())  # type: ignore[attr-defined]
    to.end_headers()
    to.wfile.write(data)


def other_bytes(to: Handler, data: bytes, drawn: random.Random) -> None:
    """Send a file of the right length with a bit changed."""
    changed = bytearray(data or b"x")
    changed[drawn.randrange(len(changed))] ^= 1 << drawn.randrange(8)
    to.reply(200, bytes(changed))


def bomb(to: Handler, data: bytes, drawn: random.Random) -> None:
    """Send little that unpacks to much, though nobody has asked for anything packed."""
    packed = gzip.compress(bytes(32 << 20)) if drawn.random() < 0.5 else gzip.compress(data)
    to.reply(200, packed, Content_Encoding=drawn.choice(("gzip", "deflate", "br", "gzip, gzip")))


def many_headers(to: Handler, data: bytes, drawn: random.Random) -> None:
    """Send too many headers, or too long ones."""
    many = drawn.choice(({f"X-{n}": "y" for n in range(300)}, {"X": "y" * 100_000}))
    to.reply(200, data, **many)


def babble(to: Handler, data: bytes, drawn: random.Random) -> None:
    """Send what is no answer."""
    to.wfile.write(
        drawn.choice((b"", b"\xff" * 9000, b"HTTP/9 x\r\n\r\n", b"HTTP/1.1 -5 no\r\n\r\n", b"\r\n" * 500))
    )


def wrong_part(to: Handler, data: bytes, drawn: random.Random) -> None:
    """Answer with a part that nobody has asked for."""
    start = drawn.choice((0, 1, len(data), 10**14))
    to.reply(
        206, data[: drawn.randrange(len(data) + 1)], Content_Range=f"bytes {start}-{start + 9}/{len(data)}"
    )


def chunks(to: Handler, data: bytes, drawn: random.Random) -> None:
    """Send chunks whose sizes are wrong."""
    to.reply(200, b"", "", Transfer_Encoding="chunked")
    to.wfile.write(
        drawn.choice(
            (b"zz\r\n", b"ffffffffffffffff\r\nx", b"5\r\nabc", b"-1\r\n", b"0" * 70_000, b"3\r\nabcdef\r\n")
        )
    )


def refusal(to: Handler, data: bytes, drawn: random.Random) -> None:
    """Answer with an error, and a page for it."""
    to.reply(drawn.choice((400, 401, 403, 404, 410, 418, 429, 500, 503, 599)), b"<html>" * 1000)


BEHAVIOURS: tuple[Answer, ...] = (
    circle, elsewhere, endless_redirect, trickle_headers, trickle_body, silence, endless, short, wrong_length,
    other_bytes, bomb, many_headers, babble, wrong_part, chunks, refusal,
)  # fmt: skip


def flood(to: Handler) -> None:
    """Send bytes until the client hangs up, or has taken far more than it may."""
    piece = b"x" * (1 << 20)
    for _ in range(FLOOD >> 20):
        if to.server.over.is_set():
            return
        to.wfile.write(piece)


@contextmanager
def serving(root: Path) -> Iterator[Server]:
    """Serve a folder as long as the context lasts."""
    server = Server(root)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def attempt(behaviour: Answer, root: Path, drawn: random.Random, place: Path) -> tuple[str, str]:
    """Pull or mirror from a server with a behaviour, and look at what is here afterwards."""
    shutil.rmtree(place, ignore_errors=True)
    os.environ["HF_HOME"] = str(place / "hf")
    path = drawn.choice(
        ("/index.signed", f"/{POLICIES[0]}/weights.safetensors", f"/{POLICIES[0]}/policy.json", "/")
    )
    with serving(root) as server:
        server.plan = Plan(behaviour, path, drawn.choice((0, 0, 0, 1)), drawn)

        def bring() -> None:
            zoo = Zoo.open(server.address)
            mirror(zoo, place / "copy") if drawn.random() < 0.3 else pull(zoo, POLICIES[0])

        came, said = verdict(bring)
    wrong = [file for file in installed(place) if not is_genuine(file, root)]
    if wrong:
        return FAILED, f"installed other bytes: {wrong[0].name}"
    return came, said


def installed(place: Path) -> list[Path]:
    """Return the files that are here ready for use."""
    found = [*(zoo_cache() / "policies").glob("*/*/*"), *(place / "copy").glob("*/*")]
    return [file for file in found if file.is_file() and not file.parent.name.endswith(".partial")]


def is_genuine(file: Path, root: Path) -> bool:
    """Return whether a file is one of the zoo's."""
    return any(file.read_bytes() == one.read_bytes() for one in root.glob(f"*/{file.name}"))


def besiege(counts: Counts, scratch: Path, seconds: float, only: str = "", once: int = 0) -> None:
    """Go round all behaviours until the time is over, or until `once` were tried."""
    pinned_keys.PINNED = (public_text(KEY),)
    root = small_zoo(scratch)
    Http.patience, transfer.PAUSE, transfer.ATTEMPTS = PROMPT, 0.0, 2
    listed = [one for one in BEHAVIOURS if only in one.__name__]

    def tried(name: str, number: int) -> tuple[str, str]:
        behaviour = next(one for one in BEHAVIOURS if one.__name__ == name.replace(" ", "_"))
        return attempt(behaviour, root, random.Random(f"{SEED} {name} {number}"), scratch / "place")

    counts.retry(tried)
    end = time.monotonic() + seconds
    while time.monotonic() < end and (not once or counts.total < once):
        name = listed[counts.total % len(listed)].__name__.replace("_", " ")
        counts.add(name, *tried(name, counts.tried(name)))
        if counts.total % 50 == 0 and not once:
            counts.save()


def main() -> None:
    """Besiege until the time is over."""
    chosen = arguments(__doc__, "hostile_server")
    counts = Counts.open(chosen.json)
    with scratch_folder() as scratch:
        besiege(counts, scratch, chosen.seconds, chosen.only or "")
    conclude(counts)


if __name__ == "__main__":
    main()
