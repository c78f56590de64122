"""An OpenAI-compatible server before another one, that puts a budget of thought into every chat request.

Whatever isn't a chat request passes as it is, and so does a request for which no budget can be chosen: the
router may fail, the answer may not.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from prunepolicy.commands.think.chat_client import checked_endpoint
from prunepolicy.policy.kinds.router import Router
from prunepolicy.policy.load import load_policy
from prunepolicy.policy.routing.controls.registry import controls
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io import bounded

BUDGET, REASON, ROUTER = "x-prunepolicy-budget", "x-prunepolicy-reason", "x-prunepolicy-router"
"""Headers of answers: what was chosen, why, and by which router."""
CHAT = "/chat/completions"
MOST_REQUEST = 64 << 20
"""Bytes of a request; pictures travel in it as text."""
OWN = {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
       "transfer-encoding", "upgrade", "host", "content-length", "expect"}  # fmt: skip
"""Headers that belong to one connection, not to what is passed on."""
UNPACKED = OWN | {"content-encoding"}
"""Those of requests, whose bodies have been read."""
NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""What a client didn't say isn't said for it."""
REFUSALS = {400, 422}
"""What servers answer to fields that they don't know."""
CONNECTING = 10.0
"""Seconds."""
UPSTREAM: web.AppKey[aiohttp.ClientSession] = web.AppKey("upstream")


@dataclass(frozen=True)
class RoutedRequest:
    """A request's body on its way.

    Attributes:
        body: with a budget, where one was chosen.
        budget: what was chosen; None where the request is passed on as it came.
        reason: why.
    """

    body: bytes
    budget: str | None
    reason: str

    @property
    def headers(self) -> dict[str, str]:
        """What the client is to know."""
        return {BUDGET: self.budget or "unchanged", REASON: self.reason}


class RoutingProxy:
    """Passes requests on to a server, chat requests with a budget.

    Args:
        upstream: address of the server, up to `/v1`.
        log: is called with every choice and its prompt; without it, nothing that a user wrote leaves a trace.
    """

    def __init__(self, router: Router, upstream: str, log: Callable[[str], object] | None = None) -> None:
        self.router, self.upstream, self.log = router, checked_endpoint(upstream, "--upstream"), log
        self.control = controls[router.config.control]()
        self.label = {ROUTER: "".join(c for c in router.name if c.isascii() and c.isprintable())}

    def application(self) -> web.Application:
        """Return what an aiohttp server runs."""
        application = web.Application(client_max_size=MOST_REQUEST)
        application.cleanup_ctx.append(self._session)
        application.router.add_route("*", "/{path:.*}", self.handle)
        return application

    def routed(self, body: bytes) -> RoutedRequest:
        """Return a chat request with the budget that the router chooses, or as it came, with the reason."""
        try:
            request = bounded.parsed_json(body)
            if unrouted := self._left_alone(request):
                return RoutedRequest(body, None, unrouted)
            chosen = self.router.decide(request["messages"])
            changed = json.dumps(self.control.put(request, chosen.budget), ensure_ascii=False).encode()
        except Exception as error:
            # Of what a user wrote, an error's text may hold parts.
            return RoutedRequest(body, None, f"the router failed: {type(error).__name__}")
        if self.log is not None:
            self.log(f"{chosen.budget} ({chosen.reason}): {json.dumps(request['messages'])}")
        return RoutedRequest(changed, str(chosen.budget), chosen.reason)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        if not request.raw_path.startswith("/"):
            return _failed(400, f"{request.method} takes a path on this server.")
        body = await request.read()
        chat = request.method == "POST" and request.path.endswith(CHAT)
        routed = self.routed(body) if chat else None
        try:
            answer, routed = await self._answered(request, body, routed)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return _failed(502, f"{self.upstream} can't be reached: {bounded.why(error)}.")
        async with answer:
            return await self._streamed(request, answer, routed)

    async def _answered(
        self, request: web.Request, body: bytes, routed: RoutedRequest | None
    ) -> tuple[aiohttp.ClientResponse, RoutedRequest | None]:
        """Return the server's answer as soon as its head is there, and what it is an answer to."""
        answer = await self._sent(request, body if routed is None else routed.body)
        if routed is None or routed.budget is None or answer.status not in REFUSALS:
            return answer, routed
        # It may be the budget that the server refuses; the client never asked for one.
        answer.close()
        plain = RoutedRequest(body, None, f"the server refused the budget {routed.budget}")
        return await self._sent(request, body), plain

    async def _sent(self, request: web.Request, body: bytes) -> aiohttp.ClientResponse:
        path = request.raw_path
        inside = path.startswith("/v1/")
        address = self.upstream + path[3:] if inside else self.upstream.removesuffix("/v1") + path
        return await request.app[UPSTREAM].request(
            request.method,
            URL(address, encoded=True),
            headers=[
                (name, value) for name, value in request.headers.items() if name.lower() not in UNPACKED
            ],
            skip_auto_headers=NOT_ADDED,
            data=body or None,
            allow_redirects=False,
        )

    async def _streamed(
        self, request: web.Request, answer: aiohttp.ClientResponse, routed: RoutedRequest | None
    ) -> web.StreamResponse:
        """Hand every part of an answer on as it comes."""
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        for name, value in answer.headers.items():
            if name.lower() not in OWN:
                response.headers.add(name, value)
        if routed is not None:
            response.headers.update({**routed.headers, **self.label})
        response.content_length = answer.content_length
        await response.prepare(request)
        try:
            async for part in answer.content.iter_any():
                await response.write(part)
        except aiohttp.ClientPayloadError:
            # Half an answer must look like one here, too.
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
        return response

    def _left_alone(self, request: Any) -> str:
        """Return why a request isn't routed; nothing where it is."""
        if not isinstance(request, Mapping):
            return "the request is no object"
        learned = self.router.config.model
        if request.get("model") not in (None, learned):
            return "the router learned from another model"
        if self.control.is_set(request):
            return "the request says itself how much to think"
        return ""

    async def _session(self, application: web.Application) -> AsyncIterator[None]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECTING)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            application[UPSTREAM] = session
            yield


def open_router(source: str) -> Router:
    """Return the router that a user names, by folder or zoo reference.

    Raises:
        UsageError: when there is none, or it is another kind of policy.
        PrunePolicyError: when it is damaged.
    """
    policy = load_policy(source)
    if not isinstance(policy, Router):
        raise UsageError(
            f"{source} is a policy of the kind {policy.kind}; `prunepolicy think fit` makes routers."
        )
    return policy


def _failed(status: int, message: str) -> web.Response:
    """Return an error as the API has it."""
    problem = {"message": message, "type": "prunepolicy_error", "param": None, "code": status}
    return web.json_response({"error": problem}, status=status)


def serve(proxy: RoutingProxy, host: str, port: int) -> None:
    """Serve until the process is asked to end; a client that goes takes its request to the server along."""
    web.run_app(
        proxy.application(),
        host=host,
        port=port,
        print=None,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=5.0,
        backlog=1024,
    )
