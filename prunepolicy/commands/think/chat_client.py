"""Ask an OpenAI-compatible server, many questions at a time, and take nothing on trust that it answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import aiohttp
from pydantic import BaseModel, Field, ValidationError

from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.console import harmless

MOST_ANSWER = 16 << 20
"""Bytes of an answer."""
SHOWN = 200
"""Characters of a server's complaint that are shown."""
TRIES = 4
PAUSE = 1.0
"""Seconds before the second try; they double with each."""
WORTH_ANOTHER = {408, 409, 425, 429}
"""Beside all of 500 and above: statuses that may be others the next time."""
COMPLETIONS = "chat/completions"


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    completion_tokens: Annotated[int, Field(ge=0, le=1 << 31)]


class ChatCompletion(BaseModel):
    """What is needed of an answer; its many other fields are ignored."""

    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: _Usage

    @property
    def text(self) -> str:
        """What was said; a server with a reasoning parser has taken the thought out."""
        return self.choices[0].message.content or ""

    @property
    def finish(self) -> str:
        """Why it ended, such as `length`."""
        return harmless(self.choices[0].finish_reason or "")[:64]


class UnansweredError(PrunePolicyError):
    """The server doesn't answer, or not as the API says."""


@dataclass(frozen=True)
class ChatClient:
    """A session with a server.

    Attributes:
        endpoint: its address, up to `/v1`.
        timeout: seconds for one answer.
    """

    session: aiohttp.ClientSession
    endpoint: str
    timeout: float

    async def ask(self, request: Mapping[str, Any]) -> tuple[ChatCompletion, float]:
        """Return the answer, and the seconds that it took; what may be an accident is tried again.

        Raises:
            UnansweredError: when there is no answer that can be read.
        """
        for attempt in range(TRIES):
            began = time.perf_counter()
            try:
                return await self._once(request), time.perf_counter() - began
            except _AccidentError as error:
                if attempt == TRIES - 1:
                    raise UnansweredError(f"{error} It was asked {TRIES} times.") from error
            await asyncio.sleep(PAUSE * 2**attempt)
        raise AssertionError("the last try returns or raises")

    async def _once(self, request: Mapping[str, Any]) -> ChatCompletion:
        address = f"{self.endpoint}/{COMPLETIONS}"
        try:
            async with asyncio.timeout(self.timeout), self.session.post(address, json=request) as response:
                data = await _read(response)
                status = response.status
        except TimeoutError as error:
            raise _AccidentError(f"{address} gave no answer in {self.timeout:g} s (--timeout).") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _AccidentError(f"{address} can't be reached: {bounded.why(error)}.") from error
        if status != 200:
            said = harmless(data.decode("utf-8", "replace").replace("\n", " "))[:SHOWN]
            kind = _AccidentError if status >= 500 or status in WORTH_ANOTHER else UnansweredError
            raise kind(f"{address} answers with status {status}: {said or 'nothing'}.")
        try:
            return ChatCompletion.model_validate(bounded.parsed_json(data))
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"])) or "the whole"
            raise _AccidentError(f"{address} answers in another form than the API's: {where}.") from error
        except ValueError as error:
            raise _AccidentError(f"{address} doesn't answer in JSON: {bounded.why(error)}.") from error


class _AccidentError(UnansweredError):
    """A failure that another try may not have."""


@asynccontextmanager
async def chat_client(
    endpoint: str, timeout: float, connections: int, key: str | None
) -> AsyncIterator[ChatClient]:
    """Open a session that holds so many connections at most, and sends the key if there is one."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    connector = aiohttp.TCPConnector(limit=connections)
    no_limit = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=no_limit) as session:
        yield ChatClient(session, endpoint, timeout)


def checked_endpoint(address: str, option: str) -> str:
    """Return a server's address without a slash at its end.

    Raises:
        UsageError: when it isn't one.
    """
    if not address.startswith(("http://", "https://")) or not address.split("://", 1)[1].strip("/"):
        raise UsageError(f"{option} is an address such as http://127.0.0.1:8000/v1; got {address!r:.200}.")
    return address.rstrip("/")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return the body of an answer, which mustn't be endless."""
    data = bytearray()
    async for part in response.content.iter_any():
        data += part
        if len(data) > MOST_ANSWER:
            raise _AccidentError(f"{response.url} answers with more than {MOST_ANSWER:,} bytes.")
    return bytes(data)
