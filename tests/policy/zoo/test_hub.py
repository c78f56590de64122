"""The Hugging Face hub, as a stand-in on this machine: pins, tokens, pushes, and `from_pretrained`."""

from __future__ import annotations

import base64
import http.server
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml

from prunepolicy.policy.base import Policy
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.policy.kinds.prunenet import PruneNet, PruneNetConfig
from prunepolicy.policy.load import load_policy
from prunepolicy.policy.zoo.hub_upload import push_to_hub, repository_of
from prunepolicy.policy.zoo.pull import pull
from prunepolicy.policy.zoo.push import Parcel
from prunepolicy.policy.zoo.sources.hub import pinned_place
from prunepolicy.policy.zoo.zoo_handle import Zoo
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

REPO, ROWS = "someone/zoo", "tiny-rows.v1"
RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/(\w+)/(\S+))?")


class Hub(http.server.ThreadingHTTPServer):
    """Repositories as lists of commits, and what was asked with which token."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.commits: dict[str, list[dict[str, bytes]]] = {}
        self.tags: dict[tuple[str, str], int] = {}
        self.visibility: dict[str, str | None] = {}
        self.seen: list[tuple[str, str | None]] = []
        self.storage = ""
        self.full = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def files(self, repo: str, revision: str) -> dict[str, bytes] | None:
        commits = self.commits[repo]
        number = self.tags.get((repo, revision), len(commits) - 1 if revision == "main" else None)
        if number is None and re.fullmatch("[0-9a-f]{40}", revision):
            number = int(revision, 16) - 1
        return commits[number] if number is not None and 0 <= number < len(commits) else None


def oid(number: int) -> str:
    return f"{number + 1:040x}"


class HubHandler(http.server.BaseHTTPRequestHandler):
    """The few addresses of the hub that loading and pushing need."""

    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization")))
        if wanted := RESOLVE.fullmatch(self.path.partition("?")[0]):
            self.resolve(*wanted.groups())
        elif (wanted := API.fullmatch(self.path)) and wanted[1] in self.server.commits:
            self.answer({"id": wanted[1], "sha": oid(len(self.server.commits[wanted[1]]) - 1)})
        else:
            self.refuse("RepoNotFound")

    def resolve(self, repo: str, revision: str, file: str) -> None:
        if repo not in self.server.commits:
            return self.refuse("RepoNotFound", 401)
        files = self.server.files(repo, revision)
        if files is None:
            return self.refuse("RevisionNotFound")
        if file not in files:
            return self.refuse("EntryNotFound")
        if self.server.storage:
            self.send_response(302)
            self.send_header("Location", f"{self.server.storage}/{file}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        headers = {"ETag": '"x"', "X-Repo-Commit": oid(len(self.server.commits[repo]) - 1)}
        return self.send(200, files[file], headers)

    def do_POST(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization")))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(self.chunks())
        if self.server.full:
            self.send(507, b'{"error":"quota exceeded"}', {})
        elif self.path == "/api/repos/create":
            self.create(json.loads(body))
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif wanted := API.fullmatch(self.path.partition("?")[0]):
            getattr(self, wanted[2])(wanted[1], body)

    def chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if name not in self.server.commits:
            self.server.commits[name] = [{}]
            self.server.visibility[name] = asked.get("visibility")
        self.answer({"url": f"{self.server.address}/{name}", "id": name})

    def preupload(self, repo: str, body: bytes) -> None:
        files = [
            {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
            for f in json.loads(body)["files"]
        ]
        self.answer({"files": files})

    def commit(self, repo: str, body: bytes) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        added = {
            x["value"]["path"]: base64.b64decode(x["value"]["content"]) for x in lines if x["key"] == "file"
        }
        self.server.commits[repo].append({**self.server.commits[repo][-1], **added})
        number = len(self.server.commits[repo]) - 1
        self.answer(
            {
                "success": True,
                "commitUrl": f"{self.server.address}/{repo}/commit/{oid(number)}",
                "commitOid": oid(number),
            }
        )

    def tag(self, repo: str, body: bytes) -> None:
        self.server.tags[repo, json.loads(body)["tag"]] = len(self.server.commits[repo]) - 1
        self.send(201, b"{}", {})

    def answer(self, data: Any) -> None:
        self.send(200, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def refuse(self, code: str, status: int = 404) -> None:
        self.send(status, b"", {"X-Error-Code": code})

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with a user who is logged in."""
    import threading

    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def parcel(zoo_folder: Path, key: Any) -> Callable[[str], Parcel]:
    """A function that returns a policy of the zoo as a parcel."""

    def of(name: str) -> Parcel:
        return Parcel(name, zoo_folder / name, Zoo.open(str(zoo_folder)).index.policies[name])

    return of


def test_a_zoo_in_a_repository_grows_by_pushes_and_is_read_at_a_pin(
    hub: Hub, parcel: Callable[[str], Parcel], key: Any
) -> None:
    first = push_to_hub(parcel(ROWS), REPO, [key])
    assert first == f"hf://{REPO}@{oid(1)}"
    second = push_to_hub(parcel("tiny-fisher.llama-v1"), REPO, [key])
    assert list(Zoo.open(first).index.policies) == [ROWS]
    zoo = Zoo.open(second)
    assert list(zoo.index.policies) == ["tiny-fisher.llama-v1", ROWS]
    assert load_policy(pull(zoo, ROWS)).name == ROWS
    assert list(Zoo.open(f"hf://{REPO}@{ROWS}-1.0.0").index.policies) == [ROWS]
    assert {token for _, token in hub.seen} == {"Bearer hf_secret"}
    files = set(hub.commits[REPO][-1])
    assert files == {
        "index.signed",
        *(f"{n}/{f}" for n in zoo.index.policies for f in zoo.index.policies[n].files),
    }


def test_what_is_there_already_or_signed_by_strangers_is_not_pushed_over(
    hub: Hub, parcel: Callable[[str], Parcel], key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_to_hub(parcel(ROWS), REPO, [key])
    with pytest.raises(UsageError, match="is there already"):
        push_to_hub(parcel(ROWS), REPO, [key])
    fisher = parcel("tiny-fisher.llama-v1")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from prunepolicy.policy.zoo import pinned_keys

    monkeypatch.setattr(pinned_keys, "PINNED", ())
    with pytest.raises(PrunePolicyError, match="isn't trusted here"):
        push_to_hub(fisher, REPO, [Ed25519PrivateKey.generate()])
    assert len(hub.commits[REPO]) == 2


def test_the_hubs_refusals_are_sentences(
    hub: Hub, parcel: Callable[[str], Parcel], key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commits[REPO] = [{}]
    for place, words in (
        (f"hf://{REPO}@v1", "has no revision 'v1'"),
        (f"hf://{REPO}@{oid(0)}", "There is no http"),
        ("hf://no/body@v1", "There is no repository no/body on the hub, or it is private"),
    ):
        with pytest.raises(PrunePolicyError, match=words):
            Zoo.open(place)
    hub.full = True
    with pytest.raises(PrunePolicyError, match=r"doesn't take a push to someone/zoo: .*507") as caught:
        push_to_hub(parcel(ROWS), REPO, [key])
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("PRUNEPOLICY_OFFLINE", "1")
    hub.seen.clear()
    with pytest.raises(PrunePolicyError, match="forbids a push"):
        push_to_hub(parcel(ROWS), REPO, [key])
    assert hub.seen == []


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("hf://someone/zoo", "can change at any time: pin"),
        ("hf://someone/zoo@main", "can change at any time: pin"),
        ("hf://zoo@v1", "is no place on the hub"),
        ("hf://../..@v1", "is no place on the hub"),
        ("hf://a/b@v1/../x", "is no place on the hub"),
        ("hf://a/b@..", "is no place on the hub"),
    ],
)
def test_places_that_move_or_are_none_are_refused(place: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        pinned_place(place)


@pytest.mark.parametrize("place", ["hf://me", "hf://me/zoo@v1", "http://x/y", "hf://-/..", "hf://me/../x"])
def test_places_that_nothing_can_be_pushed_to_are_refused(place: str) -> None:
    with pytest.raises(UsageError, match="is no place to push to"):
        repository_of(place)


def test_the_token_does_not_follow_to_the_storage(
    hub: Hub, parcel: Callable[[str], Parcel], key: Any, serve: Any, zoo_folder: Path
) -> None:
    place = push_to_hub(parcel(ROWS), REPO, [key])
    storage = serve(zoo_folder)
    hub.storage = storage.address
    assert load_policy(pull(Zoo.open(place), ROWS)).name == ROWS
    assert len(storage.sent_headers) == 5
    assert not any("Authorization" in headers for headers in storage.sent_headers)


def test_a_single_policy_goes_to_a_repository_and_comes_back(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = PruneNet(PruneNetConfig(hidden=4), "mine")
    address = policy.push_to_hub("me/rows", private=True, commit_message="First")
    assert address == f"{hub.address}/me/rows/commit/{oid(1)}"
    assert hub.visibility["me/rows"] == "private"
    assert set(hub.commits["me/rows"][-1]) == {"policy.json", "weights.safetensors", "README.md"}
    head = yaml.safe_load(hub.commits["me/rows"][-1]["README.md"].decode().split("---")[1])
    assert head["library_name"] == "prunepolicy"
    loaded = Policy.from_pretrained("me/rows", revision=oid(1))
    assert isinstance(loaded, PruneNet)
    assert all((loaded.weights()[name] == tensor).all() for name, tensor in policy.weights().items())
    hub.seen.clear()
    for switch in ("", "PRUNEPOLICY_OFFLINE"):
        with monkeypatch.context() as patch:
            if switch:
                patch.setenv(switch, "1")
            assert (
                PruneNet.from_pretrained("hf://me/rows", revision=oid(1), local_files_only=True).name
                == "mine"
            )
    assert hub.seen == []
    cached = Policy.from_pretrained("me/rows", revision=oid(1), cache_dir=tmp_path / "cache")
    assert cached.name == "mine"
    assert list((tmp_path / "cache").rglob("policy.json"))


def test_from_pretrained_takes_folders_and_the_zoo_and_minds_the_kind(
    zoo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Heuristic(HeuristicConfig(criterion="taylor"), "mine").save_pretrained(tmp_path / "mine")
    assert Policy.from_pretrained(tmp_path / "mine").name == "mine"
    assert Heuristic.from_pretrained(str(tmp_path / "mine")).config.criterion == "taylor"
    monkeypatch.setenv("PRUNEPOLICY_ZOO", str(zoo_folder))
    assert Policy.from_pretrained("zoo:tiny-rows").name == ROWS
    assert Policy.from_pretrained("fisher").kind == "heuristic"
    with pytest.raises(UsageError, match="of the kind heuristic, not PruneNet"):
        PruneNet.from_pretrained(tmp_path / "mine")


def test_repositories_that_are_no_policy_leave_nothing(
    hub: Hub, tmp_path: Path, quarantined: Callable[[], list[str]]
) -> None:
    PruneNet(PruneNetConfig(hidden=4), "mine").save(tmp_path)
    good = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    hub.commits["me/rows"] = [
        {"config.json": b"{}"},
        {**good, "policy.json": b"[]"},
        {**good, "weights.safetensors": good["weights.safetensors"][:-4] + b"evil"},
        {"policy.json": good["policy.json"]},
        {**good, "policy.json": b" " * (1 << 20) + good["policy.json"]},
        good,
    ]
    for number, words in enumerate(
        ("There is no", "is not a policy", "not what was saved", "There is no", "is larger")
    ):
        with pytest.raises(PrunePolicyError, match=words):
            Policy.from_pretrained("me/rows", revision=oid(number))
    assert len(quarantined()) == 1
    assert Policy.from_pretrained("me/rows", revision=oid(5)).name == "mine"
    with pytest.raises(UsageError, match="pin a tag or a commit"):
        Policy.from_pretrained("me/rows")
    with pytest.raises(PrunePolicyError, match="local_files_only"):
        Policy.from_pretrained("me/rows", revision=oid(0), local_files_only=True)
