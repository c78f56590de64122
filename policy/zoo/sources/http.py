"""A web server with the files of a zoo, such as `python -m http.server` over a mirror."""

from __future__ import annotations

import http.client
import io
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit

from prunepolicy.policy.zoo.sources.registry import (
    CHUNK,
    InterruptedTransferError,
    Source,
    Stream,
    sources,
)
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.machine import own_version

MOST_REDIRECTS = 5
SCHEMES = ("http", "https")
SECRETS = ("Authorization", "Cookie")
RANGE = re.compile(r"bytes ([0-9]{1,15})-[0-9]{1,15}/([0-9]{1,15}|\*)", re.ASCII)
COME_AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""Answers that may be others in a moment."""


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, in seconds.

    Attributes:
        silence: without a single byte.
        answer: for an answer's headers, redirects included, however slowly they trickle.
        whole: for one file, likewise.
    """

    silence: float = 15
    answer: float = 30
    whole: float = 300


@dataclass
class Deadline:
    """When reading ends, whatever comes: a moment of `time.monotonic`."""

    end: float

    def check(self) -> None:
        """Raise `TimeoutError` when it has passed."""
        if time.monotonic() > self.end:
            raise TimeoutError


@sources.register
class Http(Source):
    """Reads files below an address; HTTPS is never left for HTTP, and no other scheme is entered."""

    remote = True
    patience = Patience()

    def __init__(self, spelling: str) -> None:
        super().__init__(spelling)
        address = urlsplit(spelling)
        if not address.hostname or address.query or address.fragment or address.username:
            raise UsageError(f"{spelling!r} is no address of a zoo: give http(s)://HOST/PATH.")

    @classmethod
    def claims(cls, spelling: str) -> bool:
        """Return whether the spelling is a web address."""
        return spelling.startswith(("http://", "https://"))

    def address(self, path: str) -> str:
        """Return the full address of a file."""
        return f"{self.spelling.rstrip('/')}/{quote(path)}"

    def headers(self) -> dict[str, str]:
        """Return what is sent along; secrets among it stay with the host they are for."""
        return {"User-Agent": f"prunepolicy/{own_version()}", "Accept-Encoding": "identity"}

    @contextmanager
    def open(self, path: str, start: int = 0) -> Iterator[Stream]:
        """Ask for a file, from byte `start` on."""
        headers = self.headers() | ({"Range": f"bytes={start}-"} if start else {})
        request = urllib.request.Request(self.address(path), headers=headers)
        begun = time.monotonic()
        deadline = Deadline(begun + self.patience.answer)
        with self._answered(request, deadline) as answer:
            deadline.end = begun + self.patience.whole
            yield _stream(answer, start, request.full_url)

    def refusal(self, error: HTTPError, address: str) -> PrunePolicyError:
        """Return what an answer that is no success means."""
        if error.code in (404, 410):
            return PrunePolicyError(f"There is no {address}.")
        if 300 <= error.code < 400:
            return PrunePolicyError(f"{address} redirects too often, in a circle, or to a foreign scheme.")
        if error.code in COME_AGAIN:
            return InterruptedTransferError(f"{address} answers {error.code} for now.")
        return PrunePolicyError(f"{address} answers {error.code}.")

    def _answered(self, request: urllib.request.Request, deadline: Deadline) -> Any:
        address = request.full_url
        try:
            return _opener(deadline).open(request, timeout=self.patience.silence)
        except HTTPError as error:
            error.close()
            if error.code == 416:
                return self._answered_whole(request, deadline)
            raise self.refusal(error, address) from error
        except (URLError, OSError, http.client.HTTPException) as error:
            raise _gone(address, error) from error
        except ValueError as error:
            raise PrunePolicyError(f"{address} is no usable address: {error}.") from error

    def _answered_whole(self, request: urllib.request.Request, deadline: Deadline) -> Any:
        """Ask again without a range: what is there already doesn't fit what the server has."""
        if not request.has_header("Range"):
            raise PrunePolicyError(f"{request.full_url} refuses a range that nobody asked for.")
        request.remove_header("Range")
        return self._answered(request, deadline)


class _Watched(io.RawIOBase):
    """A socket's bytes until a deadline: a server that sends one now and then would keep its timeout away."""

    def __init__(self, raw: io.RawIOBase, deadline: Deadline) -> None:
        self.raw, self.deadline = raw, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self.deadline.check()
        count: int | None = self.raw.readinto(buffer)
        return count

    def close(self) -> None:
        self.raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer that is read until a deadline, headers included."""

    def __init__(self, deadline: Deadline, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_Watched(self.fp.detach(), deadline))


class _Connections(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Connects for both schemes; every answer has the same deadline."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self.deadline = deadline

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Ask without encryption."""
        return self.do_open(partial(self._connected, http.client.HTTPConnection), req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Ask with encryption; the server's certificate is checked."""
        return self.do_open(partial(self._connected, http.client.HTTPSConnection), req)

    def _connected(self, kind: type[http.client.HTTPConnection], host: str, **options: Any) -> Any:
        self.deadline.check()
        connection = kind(host, **options)
        setattr(connection, "response_class", partial(_Answer, self.deadline))  # noqa: B010 (a type by its stub)
        return connection


def _opener(deadline: Deadline) -> urllib.request.OpenerDirector:
    """Return what speaks HTTP and nothing else: no files, no FTP, no data addresses."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Connections(deadline),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows few redirects, to the same scheme or to HTTPS, and leaves secrets behind between hosts."""

    max_redirections = MOST_REDIRECTS
    max_repeats = 2

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the request that follows a redirect."""
        fp.close()  # Its body says nothing; the caller would read all of it.
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in SCHEMES or (old.scheme, new.scheme) == ("https", "http"):
            raise PrunePolicyError(
                f"{req.full_url} redirects from {old.scheme} to {new.scheme[:20]}, which isn't followed."
            )
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and (old.scheme, old.netloc) != (new.scheme, new.netloc):
            for name in SECRETS:
                request.remove_header(name)
        return request


def _stream(answer: Any, start: int, address: str) -> Stream:
    """Read an answer's headers, which may say anything."""
    placed = RANGE.fullmatch(answer.headers.get("Content-Range") or "") if answer.status == 206 else None
    if answer.status == 206 and (placed is None or int(placed[1]) != start):
        raise PrunePolicyError(f"{address} sends another part of the file than it was asked for.")
    begin = start if placed else 0
    if placed is not None:
        size = int(placed[2]) if placed[2] != "*" else None
    else:
        length = answer.headers.get("Content-Length") or ""
        size = int(length) if length.isascii() and length.isdigit() and len(length) < 16 else None
    return Stream(begin, _chunks(answer, address), size)


def _chunks(answer: Any, address: str) -> Iterator[bytes]:
    while True:
        try:
            chunk = answer.read1(CHUNK)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _gone(address, error) from error
        if not chunk:
            return
        yield chunk


def _gone(address: str, error: Exception) -> InterruptedTransferError:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return InterruptedTransferError(f"{address} doesn't answer in time.")
    said = str(getattr(reason, "strerror", None) or reason)
    words = "".join(letter for letter in said[:120] if letter.isprintable())
    return InterruptedTransferError(f"Can't reach {address}: {words or type(reason).__name__}.")
