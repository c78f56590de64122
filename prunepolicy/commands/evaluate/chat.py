"""The same prompt to one model or two: answers beside each other as they are written, with their speed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.live import Live
from rich.table import Table

from prunepolicy.agents.runtime.html_page import answers, commands, element, page, section
from prunepolicy.pruning.errors import UnsupportedModelError, UsageError
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.console import Console, styled
from prunepolicy.pruning.io.progress import ProgressReporter
from prunepolicy.pruning.io.text_file import read_text
from prunepolicy.pruning.measure.replies import DecodingSettings, Reply, chats, replies
from prunepolicy.pruning.session.opened_model import Hardware, OpenedModel

NARROWEST = 72
"""Columns that two answers beside each other need."""
REFRESH = 0.1
"""Seconds between redrawings of both answers."""
MOST_PROMPTS = 1000


@dataclass(frozen=True)
class Answered:
    """A prompt, and what every model made of it.

    Attributes:
        replies: by model.
        stopped: whether the user ended the answers before the models did.
    """

    prompt: str
    replies: dict[str, Reply]
    stopped: bool = False


@dataclass(frozen=True)
class Chat:
    """One model or two that answer; the same seed for both."""

    models: Sequence[OpenedModel]
    how: DecodingSettings

    @classmethod
    def opened(cls, names: Sequence[str], how: DecodingSettings, hardware: Hardware) -> Chat:
        """Open the models.

        Raises:
            UnsupportedModelError: for models that don't write text.
        """
        if len(set(names)) < len(names):
            raise UsageError(f"Both models are {names[0]}; give two different ones, or one alone.")
        models = [OpenedModel.named(name, hardware) for name in names]
        for model in models:
            if model.checkpoint.adapter.task != "causal":
                raise UnsupportedModelError(f"{model.name} doesn't write text, so it can't answer.")
            model.tokenizer  # noqa: B018  # A folder without one is refused before weights are read.
        return cls(models, how)

    def answer(self, prompt: str) -> Answered:
        """Return the whole answers."""
        found = self._unwritten()
        for _ in self._written(prompt, found):
            pass
        return Answered(prompt, found)

    def show(self, prompt: str, console: Console) -> Answered:
        """Print the answers while they are written; an interrupt ends them, and what is there stays."""
        found = self._unwritten()
        beside = console.is_terminal and len(self.models) == 2 and console.width >= NARROWEST
        try:
            (self._show_beside if beside else self._show_below)(prompt, found, console)
        except KeyboardInterrupt:
            console.print()
            return Answered(prompt, found, stopped=True)
        return Answered(prompt, found)

    def _unwritten(self) -> dict[str, Reply]:
        return {model.name: Reply() for model in self.models}

    def _written(self, prompt: str, found: dict[str, Reply]) -> Iterator[None]:
        """Let the models write in turn, a token each, and yield whenever `found` has got longer."""
        writing = {
            model.name: replies(model.model, model.tokenizer, prompt, self.how) for model in self.models
        }
        while writing:
            for name, answer in tuple(writing.items()):
                reply = next(answer, None)
                if reply is None:
                    del writing[name]
                else:
                    found[name] = reply
                    yield

    def _show_beside(self, prompt: str, found: dict[str, Reply], console: Console) -> None:
        drawn = 0.0
        with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
            try:
                for _ in self._written(prompt, found):
                    if time.monotonic() - drawn > REFRESH:
                        live.update(_columns(found), refresh=True)
                        drawn = time.monotonic()
            finally:
                live.update(_columns(found), refresh=True)

    def _show_below(self, prompt: str, found: dict[str, Reply], console: Console) -> None:
        """Let one model answer after the other, under their names where there are two."""
        for model in self.models:
            if len(self.models) > 1:
                console.print(styled((model.name, "bold")))
            shown = 0
            for reply in replies(model.model, model.tokenizer, prompt, self.how):
                console.print(styled(reply.text[shown:]), end="", soft_wrap=True)
                shown, found[model.name] = len(reply.text), reply
            console.print(styled(("\n" + speed(found[model.name]), "dim")))

    @property
    def wording(self) -> str:
        """How prompts are put to the models, in a sentence."""
        ways = {model.name: "in its chat template" if chats(model.tokenizer) else "as a text to continue"
                for model in self.models}  # fmt: skip
        chosen = (
            f"sampled at temperature {self.how.temperature:g} with seed {self.how.seed}"
            if self.how.temperature
            else "the most probable token each time"
        )
        put = "; ".join(f"{name} gets prompts {way}" for name, way in ways.items())
        return f"{put}. At most {self.how.tokens} tokens, {chosen}; every prompt stands alone."


def talk(chat: Chat, console: Console) -> None:
    """Answer line after line of what the user types, until the input ends or an interrupt between answers."""
    typed = sys.stdin.isatty()
    if typed:
        console.print(chat.wording, style="dim")
        console.print("Ctrl-C ends an answer, Ctrl-D ends the chat.", style="dim")
    while True:
        try:
            prompt = input("> " if typed else "")
        except (EOFError, KeyboardInterrupt):
            if typed:
                console.print()
            return
        if prompt.strip():
            chat.show(prompt, console)


def _columns(found: dict[str, Reply]) -> Table:
    table = Table(box=None, expand=True, padding=(0, 2, 0, 0), show_footer=True)
    for name, reply in found.items():
        table.add_column(
            styled((name, "bold")), ratio=1, footer=styled((speed(reply), "dim")), overflow="fold"
        )
    table.add_row(*(styled(reply.text) for reply in found.values()))
    return table


def speed(reply: Reply) -> str:
    """Say how many tokens an answer has, and how fast they came."""
    rate = "" if reply.rate is None else f", {reply.rate:.1f} tokens per second"
    return f"{reply.tokens} token{'' if reply.tokens == 1 else 's'}{rate}"


def prompts_in(file: Path) -> list[str]:
    """Return the prompts of a file, one a line.

    Raises:
        UsageError: when it can't be read, or has none or too many.
    """
    prompts = [line.strip() for line in read_text(file, "prompts").splitlines() if line.strip()]
    if not 1 <= len(prompts) <= MOST_PROMPTS:
        raise UsageError(f"{file} has {len(prompts)} prompts; a page takes 1 to {MOST_PROMPTS}, one a line.")
    return prompts


def answered_page(
    chat: Chat, prompts: Sequence[str], command: str, file: Path, progress: ProgressReporter
) -> None:
    """Answer every prompt, and write a page of them."""
    found = []
    with progress.step("answer", len(prompts)) as tick:
        for prompt in prompts:
            found.append(chat.answer(prompt))
            tick(1)
    names = " and ".join(model.name for model in chat.models)
    texts = (
        answers(one.prompt, [(f"{name}: {speed(reply)}", reply.text) for name, reply in one.replies.items()])
        for one in found
    )
    title = f"Answers of {names}"
    repeat = section("How to repeat it", *commands([("All of it", command)]))
    write_text(
        file,
        page(title, element("h1", title), element("p", chat.wording, class_="soft"), *texts, repeat),
    )


def to_json(found: Sequence[Answered]) -> str:
    """Return prompts and answers as JSON text."""
    rows: list[dict[str, Any]] = [
        {
            "prompt": one.prompt,
            "answers": [
                {"model": name, **asdict(reply), "tokens_per_second": reply.rate}
                for name, reply in one.replies.items()
            ],
        }
        for one in found
    ]
    return json.dumps(rows, indent=1) + "\n"
