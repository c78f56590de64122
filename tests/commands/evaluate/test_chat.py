"""Chat: one prompt to two models, in their chat templates, the same text every time."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunepolicy.cli import main
from prunepolicy.commands.evaluate.chat import Chat, prompts_in
from prunepolicy.pruning.checkpoint.loading import load_tokenizer
from prunepolicy.pruning.errors import BadCheckpointError, UsageError
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.measure.replies import DecodingSettings, prompt_ids, replies, reply_to
from prunepolicy.pruning.session.opened_model import Hardware, OpenedModel

Model = Callable[..., str]
FLOAT32 = Hardware("cpu", "float32")
TEMPLATE = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}{{ '[me]' }}"


@pytest.fixture
def names(model: Model) -> list[str]:
    return [model(), model("qwen3")]


def with_template(folder: str, template: str) -> str:
    tokenizer = load_tokenizer(Path(folder))
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def run(*words: Any) -> int:
    return main([*map(str, words), "--dtype", "float32"])


def test_greedy_answers_are_the_same_as_those_of_generate(model: Model) -> None:
    opened = OpenedModel.named(model(), FLOAT32)
    ids = prompt_ids(opened.model, opened.tokenizer, "It was")[None]
    written: Any = opened.model.generate(ids, max_new_tokens=9, do_sample=False, pad_token_id=0)  # type: ignore[operator]
    text = opened.tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
    found = reply_to(opened.model, opened.tokenizer, "It was", DecodingSettings(tokens=9))
    assert found.text == text.rstrip("\ufffd")
    assert found.tokens == len(written[0]) - ids.shape[1]


def test_the_chat_template_words_the_prompt(model: Model) -> None:
    opened = OpenedModel.named(with_template(model(), TEMPLATE), FLOAT32)
    ids = prompt_ids(opened.model, opened.tokenizer, "Hi")
    assert opened.tokenizer.decode(ids) == "[user] Hi[me]"


def test_a_template_that_fails_is_one_sentence(model: Model) -> None:
    opened = OpenedModel.named(with_template(model(), "{{ raise_exception('no users here') }}"), FLOAT32)
    with pytest.raises(BadCheckpointError, match="no users here"):
        prompt_ids(opened.model, opened.tokenizer, "Hi")


def test_sampling_follows_its_seed(model: Model) -> None:
    opened = OpenedModel.named(model(), FLOAT32)
    texts = [
        reply_to(opened.model, opened.tokenizer, "It was", DecodingSettings(12, 3.0, seed)).text
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_prompt_that_fills_the_context_is_refused(model: Model) -> None:
    opened = OpenedModel.named(model(), FLOAT32)
    with pytest.raises(UsageError, match="reads 64 at once"):
        reply_to(opened.model, opened.tokenizer, "x" * 64, DecodingSettings())
    assert reply_to(opened.model, opened.tokenizer, "x" * 60, DecodingSettings()).tokens <= 4


def test_two_models_answer_below_each_other_in_a_log(names: list[str], capsys: Any) -> None:
    assert run("chat", *names, "--prompt", "It was", "--tokens", 6) == 0
    printed = capsys.readouterr().out
    assert printed.index(names[0]) < printed.index(names[1])
    assert printed.count("tokens per second") == 2


def test_two_models_answer_side_by_side_on_a_terminal(
    names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    file = io.StringIO()
    chat = Chat.opened(names, DecodingSettings(tokens=5), FLOAT32)
    found = chat.show("It was", Console(file=file, force_terminal=True, width=300))
    heads = [line for line in file.getvalue().splitlines() if all(name in line for name in names)]
    assert heads
    assert "\x1b[3" not in file.getvalue(), "no colours"
    assert set(found.replies) == set(names)


def test_an_interrupt_ends_the_answer_and_keeps_what_is_there(
    names: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def interrupted(*arguments: Any) -> Any:
        yield from list(replies(*arguments))[:2]
        raise KeyboardInterrupt

    monkeypatch.setattr("prunepolicy.commands.evaluate.chat.replies", interrupted)
    found = Chat.opened(names[:1], DecodingSettings(tokens=5), FLOAT32).show("It was", Console())
    assert found.stopped
    assert found.replies[names[0]].tokens == 2
    assert run("chat", names[0], "--prompt", "It was") == 130


def test_prompts_from_a_pipe_are_answered_until_it_ends(
    names: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("It was\n\nThey were\n"))
    assert run("chat", names[0], "--tokens", 3) == 0
    assert capsys.readouterr().out.count("\n3 tokens,") == 2


def test_prompts_of_a_file_make_a_page(names: list[str], tmp_path: Path, capsys: Any) -> None:
    file, out = tmp_path / "prompts.txt", tmp_path / "answers.html"
    file.write_text("<b>It was</b>\n\nThey\n")
    asked = ("chat", *names, "--prompts", file, "--out", out, "--tokens", 4)
    assert run(*asked) == 0
    text = out.read_text()
    assert "&lt;b&gt;It was&lt;/b&gt;" in text
    assert text.count('class="answer"') == 4
    assert "<script" not in text
    assert run(*asked) == 2, "it is there already"
    assert run(*asked, "--overwrite") == 0


def test_json_has_every_answer_and_its_speed(names: list[str], capsys: Any) -> None:
    assert run("chat", *names, "--prompt", "It was", "--tokens", 4, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert [answer["model"] for answer in row["answers"]] == names
    assert all(answer["tokens_per_second"] > 0 for answer in row["answers"] if answer["tokens"] > 1)


@pytest.mark.parametrize(
    "words",
    [("--json",), ("--prompt", "a", "--prompts", "b"), ("--tokens", 0, "--prompt", "a")],
)
def test_wrong_requests_are_refused_at_once(words: tuple[Any, ...], model: Model) -> None:
    assert run("chat", model(), *words) == 2


def test_models_that_cannot_talk_are_refused(model: Model, names: list[str]) -> None:
    assert run("chat", model("vit"), "--prompt", "a") == 1
    assert run("chat", names[0], names[0], "--prompt", "a") == 2


def test_a_file_without_prompts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(UsageError, match="has 0 prompts"):
        prompts_in(tmp_path / "empty.txt")
