"""A zoo of one's own with a trusted key, a cache and settings apart, and a web server that can misbehave."""

from __future__ import annotations

import http.server
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.policy.kinds.prunenet import PruneNet, PruneNetConfig
from prunepolicy.policy.zoo import pinned_keys, transfer
from prunepolicy.policy.zoo.cache import zoo_cache
from prunepolicy.policy.zoo.index import Listing
from prunepolicy.policy.zoo.push import Parcel, push
from prunepolicy.policy.zoo.signing import public_text
from prunepolicy.policy.zoo.sources.http import Http, Patience

ROWS, FISHER = "tiny-rows.v1", "tiny-fisher.llama-v1"
Behaviour = Callable[["Handler", bytes], None]
Put = Callable[..., Parcel]


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep away from the user's cache and settings, allow the network, and wait for nothing."""
    for name in ("HF_ASSETS_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "PRUNEPOLICY_OFFLINE", "PRUNEPOLICY_ZOO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(transfer, "PAUSE", 0.0)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for servers for a moment only."""
    monkeypatch.setattr(Http, "patience", Patience(silence=0.2, answer=0.4, whole=0.4))
    monkeypatch.setattr(transfer, "ATTEMPTS", 2)


KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> Ed25519PrivateKey:
    """A key that this version pins, in the place of the real one."""
    monkeypatch.setattr(pinned_keys, "PINNED", (public_text(KEY),))
    return KEY


@pytest.fixture
def put(key: Ed25519PrivateKey, tmp_path: Path) -> Put:
    """A function that puts a tiny policy into the zoo in a folder."""

    def make(folder: Path, name: str = ROWS, version: str = "", **settings: Any) -> Parcel:
        return put_into(folder, tmp_path / f"prepared-{name}", name, version, **settings)

    return make


def put_into(folder: Path, prepared: Path, name: str, version: str, **settings: Any) -> Parcel:
    """Put a tiny policy into a zoo: a heuristic where the name says so, else one with weights."""
    kind = Heuristic(HeuristicConfig(**settings), name) if "fisher" in name else rows(name, **settings)
    kind.save(prepared)
    (prepared / "README.md").write_text("card\n")
    (prepared / "card.json").write_text("{}\n")
    number = name.rpartition("v")[2]
    parcel = Parcel.of(name, prepared, Listing(version=version or f"{number}.0.0", source="a test"))
    push(parcel, folder, [KEY])
    return parcel


def rows(name: str, hidden: int = 4) -> PruneNet:
    return PruneNet(PruneNetConfig(hidden=hidden), name)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo with two policies, which no test may change."""
    folder = tmp_path_factory.mktemp("zoo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pinned_keys, "PINNED", (public_text(KEY),))
        for name, settings in ((ROWS, {}), (FISHER, {"criterion": "fisher"})):
            put_into(folder, folder.parent / f"once-{name}", name, "", **settings)
    return folder


@pytest.fixture
def zoo_folder(made_once: Path, tmp_path: Path) -> Path:
    """A zoo with two policies."""
    return Path(shutil.copytree(made_once, tmp_path / "zoo"))


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves files with ranges, unless a behaviour was set for their path."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.asked.append((self.path, self.headers.get("Range")))
        self.server.sent_headers.append(dict(self.headers))
        file = self.server.root / self.path.lstrip("/").partition("?")[0]
        content = file.read_bytes() if file.is_file() else b""
        behaviour = self.server.behaviours.get(self.path)
        if isinstance(behaviour, list):
            behaviour = behaviour.pop(0) if behaviour else None
        if behaviour is not None:
            behaviour(self, content)
        elif not file.is_file():
            self.send_error(404)
        else:
            self.ranged(content)

    def ranged(self, content: bytes) -> None:
        """Answer with what was asked for."""
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if wanted is None:
            self.answer(200, content)
        elif int(wanted[1]) >= len(content):
            self.answer(416, b"")
        else:
            start = int(wanted[1])
            place = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.answer(206, content[start:], {"Content-Range": place})

    def answer(
        self, status: int, content: bytes, headers: dict[str, str] | None = None, length: Any = None
    ) -> None:
        """Send an answer; `length` is what it claims, empty for nothing."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        claimed = len(content) if length is None else length
        if claimed != "":
            self.send_header("Content-Length", str(claimed))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """A web server on this machine; what it was asked is kept."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.behaviours: dict[str, Behaviour | list[Behaviour]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.sent_headers: list[dict[str, str]] = []
        self.over = threading.Event()
        self.bodies = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


@pytest.fixture
def serve() -> Iterator[Callable[[Path], Server]]:
    """A function that serves a folder until the test is over."""
    running: list[tuple[Server, threading.Thread]] = []

    def start(root: Path) -> Server:
        server = Server(root)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server(serve: Callable[[Path], Server], zoo_folder: Path) -> Server:
    """The zoo with two policies on a web server."""
    return serve(zoo_folder)


@pytest.fixture
def installed() -> Callable[[], list[str]]:
    """A function that names what is in the cache ready for use."""

    def names() -> list[str]:
        folder = zoo_cache() / "policies"
        found = folder.glob("*/*/policy.json") if folder.is_dir() else ()
        return sorted(file.parent.parent.name for file in found if not file.parent.name.endswith(".partial"))

    return names


@pytest.fixture
def quarantined() -> Callable[[], list[str]]:
    """A function that names what is in quarantine."""

    def names() -> list[str]:
        folder = zoo_cache() / "quarantine"
        return sorted(place.name for place in folder.iterdir()) if folder.is_dir() else []

    return names
