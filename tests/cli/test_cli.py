"""The commands as users type them: what they print, write and return."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from prunepolicy.cli import main, prune_main
from prunepolicy.commands.report.report import PruneReport
from prunepolicy.entrypoint import run as carry_out
from prunepolicy.pruning.plan import Plan

Model = Callable[..., str]
FAST = ("--dtype", "float32", "--no-verify", "--no-measure")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def prune(model: str, out: Path, policy: str, *more: object) -> int:
    return run("prune", model, "--keep", 0.8, "--out", out, "--policy", policy, *more)


def weights(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.safetensors*"))}


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    """Run what must fail, and return the one sentence that it says about it."""
    assert run(*arguments) == code
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "Traceback" not in said
    assert said.count("\n") == 1
    return said


def test_every_command_in_turn(model: Model, quick: str, tmp_path: Path, capsys: Any) -> None:
    name, out, text = model(), tmp_path / "out", tmp_path / "text.txt"
    text.write_text("It was a bright cold day in April. " * 8)
    assert run("doctor", name) == 0
    assert "KV heads" in capsys.readouterr().out
    assert prune(name, out, quick, "--of", "ffn", "--text", text) == 0
    printed = capsys.readouterr().out
    for words in ("FFN channels", "Perplexity on text.txt", "A clean process", "no difference|faster|slower"):
        assert re.search(words, printed), words
    assert {file.name for file in out.iterdir()} >= {
        "README.md", "before_after.png", "config.json", "layers.png", "model.safetensors", "plan.json",
        "prune_report.json", "report.html", "tokenizer.json",
    }  # fmt: skip
    report = PruneReport.from_json((out / "prune_report.json").read_text())
    assert report.proof is not None
    assert report.proof.ok
    assert report.after.score is not None
    assert transformers.AutoModelForCausalLM.from_pretrained(out).config.intermediate_size < 48
    assert run("eval", out, "--text", text, "--against", name, "--window", 32) == 0
    assert "perplexity" in capsys.readouterr().out
    bench = ("--batch", 1, "--prompt", 8, "--new", 2, "--repeats", 5)
    assert run("bench", out, "--against", name, *bench) == 0
    assert "95 % interval" in capsys.readouterr().out
    assert list(tmp_path.glob("*.partial")) + list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize(
    ("model_type", "options"),
    [
        ("bert", ("--of", "ffn")),
        ("vit", ("--of", "ffn")),
        ("cifar_resnet", ("--multiple-of", 1)),
        ("mixtral", ("--of", "ffn", "--keep", 0.75)),
        ("gpt2", ("--of", "ffn")),
    ],
)
def test_families_go_all_the_way(
    model_type: str, options: tuple[object, ...], model: Model, quick: str, tmp_path: Path, capsys: Any
) -> None:
    name, out = model(model_type), tmp_path / "out"
    writes = model_type in ("mixtral", "gpt2")
    skipped = ("--no-measure",) if writes else ()
    assert prune(name, out, quick, *options, *skipped) == 0, capsys.readouterr().err
    report = PruneReport.from_json((out / "prune_report.json").read_text())
    assert report.proof is not None
    assert report.proof.ok
    assert (report.fidelity is None) == writes
    assert writes or "cosine" in report.verdict
    assert report.after.cost.params < report.before.cost.params
    assert run("doctor", out) == 0


def test_an_unknown_architecture_loses_layers(tmp_path: Path, byte_tokenizer: Any, quick: str) -> None:
    folder, out = tmp_path / "model", tmp_path / "out"
    config = transformers.AutoConfig.for_model(
        "stablelm", vocab_size=258, hidden_size=32, intermediate_size=48, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    arguments = ("--keep", 0.75, "--of", "layers", "--policy", "angular", "--out", out, *FAST)
    assert run("prune", folder, *arguments) == 0
    assert transformers.AutoModelForCausalLM.from_pretrained(out).config.num_hidden_layers == 3


def test_plan_then_cut_gives_the_bytes_of_prune_twice(model: Model, quick: str, tmp_path: Path) -> None:
    name, plan = model(max_shard_size="20KB"), tmp_path / "plan.json"
    assert prune(name, tmp_path / "whole", quick, "--of", "ffn", *FAST) == 0
    planned = ("--keep", 0.8, "--of", "ffn", "--policy", quick, "--out", plan, "--dtype", "float32")
    assert run("plan", name, *planned) == 0
    assert plan.read_bytes() == (tmp_path / "whole" / "plan.json").read_bytes()
    for number in (1, 2):
        assert run("cut", name, plan, "--out", tmp_path / f"cut{number}", *FAST) == 0
        assert weights(tmp_path / f"cut{number}") == weights(tmp_path / "whole")


def test_a_text_that_a_plan_names_is_read_only_when_the_user_names_it(
    model: Model, tmp_path: Path, capsys: Any
) -> None:
    name, plan, text = model(), tmp_path / "plan.json", tmp_path / "text.txt"
    text.write_text("What the model is watched on. " * 40)
    planned = ("--keep", 0.8, "--of", "ffn", "--policy", "magnitude", "--repair", "bias", "--probe", text)
    assert run("plan", name, *planned, "--out", plan) == 0
    assert run("cut", name, plan, "--out", tmp_path / "cut", *FAST) == 2
    assert "Paths in plans aren't opened" in capsys.readouterr().err
    assert run("cut", name, plan, "--probe", text, "--out", tmp_path / "cut", *FAST) == 0


def test_layers_of_different_width_load_with_the_file_they_carry(model: Model, tmp_path: Path) -> None:
    name, out = model(), tmp_path / "out"
    assert prune(name, out, "fisher", "--of", "ffn", "--per-layer", "--multiple-of", 1, *FAST) == 0
    loaded = transformers.AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True)
    widths = [layer.mlp.up_proj.out_features for layer in loaded.model.layers]
    assert 0.79 * 3 * 48 <= sum(widths) <= 0.8 * 3 * 48


def test_dry_run_and_plan_without_a_file_write_nothing(
    model: Model, quick: str, tmp_path: Path, capsys: Any
) -> None:
    name = model()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert prune(name, tmp_path / "deep" / "out", quick, "--of", "ffn", "--dry-run") == 0
    assert run("plan", name, "--keep", 0.8, "--of", "ffn", "--policy", quick) == 0
    assert "FFN channels" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_json_is_all_that_standard_output_holds(
    model: Model, quick: str, tmp_path: Path, capsys: Any
) -> None:
    name, out = model(), tmp_path / "out"
    assert prune(name, out, quick, "--of", "ffn", "--json", *FAST) == 0
    printed = capsys.readouterr()
    assert PruneReport.from_json(printed.out).folder == str(out)
    assert ": cut (" in printed.err
    assert prune(name, tmp_path / "other", quick, "--of", "ffn", "--json", "--dry-run") == 0
    assert Plan.from_json(capsys.readouterr().out).budget.of == "ffn"
    for command in (
        ("doctor", name),
        ("plan", name, "--keep", 0.8, "--of", "ffn", "--policy", quick),
        ("frontier", name, "--of", "ffn", "--keeps", "0.8", "--policy", quick, "--out", tmp_path / "f"),
        ("bench", out, "--against", name, "--batch", 1, "--prompt", 8, "--new", 2, "--repeats", 5),
    ):
        assert run(*command, "--json") == 0
        assert json.loads(capsys.readouterr().out)


def test_a_log_has_no_control_characters_and_one_line_per_step(
    model: Model, quick: str, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    name = model()
    capfd.readouterr()
    assert prune(name, tmp_path / "out", quick, "--of", "ffn", "--no-verify", "--dtype", "float32") == 0
    printed = capfd.readouterr()
    assert not CONTROL.search(printed.out + printed.err)
    assert printed.err == ""
    steps = [line for line in printed.out.splitlines() if line.startswith("✓ ")]
    assert [step.split(" (")[0] for step in steps][:2] == [
        "✓ step 1 of 5: load in float32",
        "✓ step 1 of 5: calibration data",
    ]
    assert steps[-1].startswith("✓ step 5 of 5: ")


def test_overwrite_replaces_whole_and_only_when_asked(
    model: Model, quick: str, tmp_path: Path, capsys: Any
) -> None:
    name, out = model(), tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    sentence = refused(capsys, 2, "prune", name, "--keep", 0.8, "--out", out, "--policy", quick)
    assert "add --overwrite" in sentence
    assert [file.name for file in out.iterdir()] == ["mine.txt"]
    assert prune(name, out, quick, "--of", "ffn", "--overwrite", *FAST) == 0
    assert not (out / "mine.txt").exists()
    assert (out / "model.safetensors").exists()


def test_interrupted_runs_continue_and_say_so(
    model: Model, quick: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, out = model(max_shard_size="20KB"), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("prunepolicy.pruning.checkpoint.cut._write_index", raiser(KeyboardInterrupt()))
        assert prune(name, out, quick, "--of", "ffn", *FAST) == 130
    assert "run the same command again" in capsys.readouterr().err
    assert not out.exists()
    finished = {f.name: f.stat().st_mtime_ns for f in tmp_path.glob("out.*.partial/out/*.safetensors")}
    assert len(finished) > 1
    assert prune(name, out, quick, "--of", "ffn", *FAST) == 0
    assert {f.name: f.stat().st_mtime_ns for f in out.glob("*.safetensors")} == finished
    assert not list(tmp_path.glob("*.partial"))


def test_what_a_scheduler_ends_leaves_only_what_the_next_run_continues_with(
    model: Model, quick: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, out, before = model(), tmp_path / "out", signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(
            "prunepolicy.pruning.checkpoint.cut._write_index", lambda *_: signal.raise_signal(signal.SIGTERM)
        )
        assert prune(name, out, quick, "--of", "ffn", *FAST) == 143
    assert "run the same command again" in capsys.readouterr().err
    assert [path.suffix for path in tmp_path.iterdir() if "out" in path.name] == [".partial"]
    assert signal.getsignal(signal.SIGTERM) is before
    assert prune(name, out, quick, "--of", "ffn", *FAST) == 0


def raiser(error: BaseException) -> Callable[..., None]:
    def fail(*args: object, **named: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("where", "error", "words", "left"),
    [
        (
            "pruning.checkpoint.cut._write_index",
            OSError(28, "No space left on device"),
            "The disk is full",
            True,
        ),
        ("commands.prune.job.measure", RuntimeError("boom\nmore"), "RuntimeError: boom", False),
        (
            "commands.prune.evidence.write_card",
            PermissionError(13, "Permission denied"),
            "Permission denied",
            False,
        ),
    ],
)
def test_failures_half_way_leave_nothing_that_confuses(
    where: str, error: Exception, words: str, left: bool, model: Model, quick: str, tmp_path: Path,
    capsys: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    name, out = model(), tmp_path / "out"
    monkeypatch.setattr(f"prunepolicy.{where}", raiser(error))
    arguments = ("--keep", 0.8, "--of", "ffn", "--out", out, "--policy", quick, "--no-verify")
    assert words in refused(capsys, 1, "prune", name, *arguments)
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))
    assert bool(list(tmp_path.glob("out.*.partial"))) == left


def test_prune_with_policy_is_prune(model: Model, quick: str, tmp_path: Path) -> None:
    arguments = [model(), "--keep", "0.8", "--of", "ffn", "--policy", quick, "--out", str(tmp_path / "out")]
    assert prune_main([*arguments, *FAST]) == 0
    assert (tmp_path / "out" / "config.json").exists()


@pytest.mark.parametrize(
    ("module", "extra"), [("gymnasium", "train"), ("reasoning_gym", "think"), ("ray", "cluster")]
)
def test_what_an_extra_would_install_names_the_extra(
    module: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert carry_out(lambda **_: importlib.import_module(f"{module}.inside"), []) == 1
    assert capsys.readouterr().err == f"error: This needs an extra: pip install 'prunepolicy[{extra}]'.\n"


def test_a_share_of_few_layers_is_rounded_down_and_said_to_be(model: Model, capsys: Any) -> None:
    name = model(num_hidden_layers=7)
    assert run("plan", name, "--keep", 0.8, "--of", "layers", "--policy", "magnitude") == 0
    assert "rounded down to 71.4%" in capsys.readouterr().out


@pytest.mark.parametrize(("chosen", "found"), [(None, "5000"), ("7", "7")])
def test_threads_yield_to_other_programs_unless_the_user_says_how_long_they_spin(
    chosen: str | None, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", chosen or "")
    if chosen is None:
        monkeypatch.delenv("GOMP_SPINCOUNT")
    assert carry_out(lambda **_: os.environ["GOMP_SPINCOUNT"] != found, []) == 0
