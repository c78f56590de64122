"""The main job from Python, and what it says about bad input from the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers

from prunepolicy import Budget, PrunePolicyError, PruneSettings, prune
from prunepolicy.cli import main
from prunepolicy.commands.prune.evidence import licence_of
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.proof.proof import Receipt
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware, OpenedModel

Model = Callable[..., str]
FLOAT32 = Hardware("cpu", "float32")


def quickly(**changes: Any) -> PruneSettings:
    return PruneSettings(**{"hardware": FLOAT32, "measure": False, "verify": False, **changes})


def test_the_same_seed_gives_the_same_result(model: Model, quick: str, tmp_path: Path) -> None:
    name, budget = model(), Budget(0.75, "ffn")
    for number in (1, 2):
        prune(name, tmp_path / str(number), budget, quick, quickly())
    prune(name, tmp_path / "3", budget, "random", quickly(seed=1))
    files = [tmp_path / str(number) / "model.safetensors" for number in (1, 2, 3)]
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()


@pytest.mark.parametrize(("policy", "repair"), [("default", "reconstruction"), ("quick", None)])
def test_where_only_layers_go_a_policys_own_repair_runs_if_it_mends_them(
    policy: str, repair: str | None, model: Model, quick: str, tmp_path: Path
) -> None:
    name, chosen = model(), quick if policy == "quick" else policy
    prune(name, tmp_path / "out", Budget(2 / 3, "layers"), chosen, quickly())
    assert json.loads((tmp_path / "out/plan.json").read_text())["repair"] == repair


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_proof_holds_whatever_the_model_computes_in(
    dtype: str, model: Model, quick: str, tmp_path: Path
) -> None:
    settings = quickly(hardware=Hardware("cpu", dtype), verify=True)
    report = prune(model(), tmp_path / "out", Budget(0.75, "ffn"), quick, settings)
    assert report.proof is not None
    assert report.proof.ok


@pytest.mark.parametrize("probe", ["no.txt", "self+no.txt"])
@pytest.mark.parametrize("broken", ["probe", "text"])
def test_a_text_that_is_missing_is_missed_before_the_work_begins(
    broken: str, probe: str, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelSession, "load", lambda *_: pytest.fail("loaded the model first"))
    settings = quickly(probe=probe) if broken == "probe" else quickly(text=Path("no.txt"))
    with pytest.raises(UsageError, match=r"^Can't read the text no.txt: No such file or directory.$"):
        prune(model(), tmp_path / "out", 0.75, settings=settings)


def test_a_result_that_is_not_proven_is_kept_beside_its_place(
    model: Model, quick: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, out, budget, settings = model(), tmp_path / "out", Budget(0.75, "ffn"), quickly(verify=True)
    (tmp_path / "out.unproven").mkdir()
    (tmp_path / "out.unproven" / "own").touch()
    kept = tmp_path / "out.unproven2"
    said = rf"kept in {kept}, not in {out}: The folder doesn't load: wrong sizes\.$"
    failed = Receipt(False, True, "The folder doesn't load: wrong sizes.")
    with monkeypatch.context() as patch:
        patch.setattr("prunepolicy.commands.prune.job.prove_result", lambda *arguments: failed)
        for _ in range(2):  # The second replaces what the first has left.
            with pytest.raises(PrunePolicyError, match=said):
                prune(name, out, budget, quick, settings)
    assert sorted(path.name for path in tmp_path.glob("*out*")) == ["out.unproven", kept.name]
    assert json.loads((kept / "prune_report.json").read_text())["proof"]["sentence"] == failed.sentence
    assert transformers.AutoModelForCausalLM.from_pretrained(kept).config.intermediate_size > 0
    assert prune(name, out, budget, quick, settings).proof
    assert kept.is_dir()
    assert (tmp_path / "out.unproven" / "own").is_file()


def test_a_model_without_a_tokenizer_is_judged_on_what_it_writes(
    model: Model, quick: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `save_pretrained` leaves models that somebody has just made."""
    name, file = model(), tmp_path / "text.txt"
    for part in Path(name).glob("*token*"):
        part.unlink()
    report = prune(name, tmp_path / "out", Budget(0.75, "ffn"), quick, quickly(measure=True))
    assert report.before.score is not None
    assert report.after.score is not None
    assert report.before.samples == ()
    assert not any("okenizer" in line for line in report.load)
    file.write_text("some words " * 500, encoding="utf-8")
    for option in ("--text", "--probe"):
        arguments = [name, "--keep", "0.75", "--out", str(tmp_path / "other"), option, str(file)]
        assert main(["prune", *arguments]) == 1
        assert re.search(r"error: .*has no tokenizer.*\.\n$", capsys.readouterr().err)


def test_the_licence_comes_from_card_or_configuration(tmp_path: Path) -> None:
    assert licence_of(tmp_path, {}) is None
    assert licence_of(tmp_path, {"license": "mit"}) == "mit"
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Model\n")
    assert licence_of(tmp_path, {"license": "mit"}) == "apache-2.0"
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n# Model\n")
    assert licence_of(tmp_path, {}) is None


@pytest.mark.parametrize("line", ["license: !!bool x", "license: " + "[" * 500, "license: \0", "a: &a [*a]"])
def test_a_damaged_licence_costs_one_warning(line: str, tmp_path: Path, caplog: Any) -> None:
    (tmp_path / "README.md").write_text(f"---\n{line}\n---\n# Model\n")
    assert licence_of(tmp_path, {"license": "mit"}) == "mit"
    (warning,) = caplog.records
    assert "so its licence isn't known: " in warning.getMessage()


def test_a_card_without_a_head_costs_none(tmp_path: Path, caplog: Any) -> None:
    (tmp_path / "README.md").write_text("# Model\n\n---\n[\n---\n")
    assert licence_of(tmp_path, {}) is None
    assert not caplog.records


def with_nan(folder: Path) -> None:
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 3] = torch.nan
    safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})


def with_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def with_activation(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text()) | {"hidden_act": "zilu"}
    (folder / "config.json").write_text(json.dumps(config))


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (with_nan, "hold NaN|no numbers"),
        (with_pickle, "pickled weights"),
        (with_activation, "doesn't load with transformers: KeyError: 'zilu'"),
        (truncated, "truncated"),
    ],
)
def test_damaged_models_are_one_sentence(
    damage: Callable[[Path], None], words: str, model: Model, quick: str, tmp_path: Path, capsys: Any
) -> None:
    name = model()
    damage(Path(name))
    arguments = ["prune", name, "--keep", "0.75", "--of", "ffn", "--out", str(tmp_path / "out")]
    for policy in (quick, "magnitude"):
        code = main([*arguments, "--policy", policy])
        said = capsys.readouterr().err
        assert (code, said.count("\n"), said[:7]) == (1, 1, "error: ")
        assert re.search(words, said)
    assert not list(tmp_path.glob("out*")) + list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("--keep 0", 2, "above 0 and at most 1"),
        ("--keep 1.2", 2, "got 1.2"),
        ("--keep 40", 2, "40 % is 0.4."),
        ("--keep nan", 2, "got nan"),
        ("--keep some", 2, "--keep takes numbers"),
        ("", 2, "'--keep'"),
        ("--keep 0.8 --of fnn", 2, "Did you mean 'ffn'?"),
        ("--keep 0.8 --units head", 2, "Did you mean 'heads'?"),
        ("--keep 0.8 --policy fishr", 2, "Did you mean 'fisher'?"),
        ("--keep 0.8 --repair rigde", 2, "Did you mean 'ridge'?"),
        ("--keep 0.8 --dtype flaot32", 2, "Did you mean 'float32'?"),
        ("--keep 0.8 --device cpuu", 2, "Did you mean 'cpu'?"),
        ("--keep 0.8 --context -1 --of memory", 2, "0 or more"),
        ("--keep 0.8 --text none.txt", 2, "does not exist"),
        ("--keep 0.8 --kep 1", 2, "--keep"),
    ],
)
def test_wrong_usage_is_one_sentence(
    options: str, code: int, words: str, model: Model, tmp_path: Path, capsys: Any
) -> None:
    assert main(["prune", model(), "--out", str(tmp_path / "out"), *options.split()]) == code
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("out*")) + list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["plan", "--keep", "0.01"], "ffn alone leaves"),
        (["prune", "--out", "OUT", "--keep", "0.1", "--of", "heads"], "heads alone leave"),
        (
            ["plan", "--keep", "0.8", "--policy", "magnitude", "--per-layer"],
            "can't be compared across layers",
        ),
        (["plan", "--keep", "0.8", "--of", "ffn+heads"], "Did you mean 'heads'"),
        (["plan", "--keep", "0.8", "--repair", "reconstrution"], "Did you mean 'reconstruction'"),
        (["plan", "--keep", "0.8", "--policy", "activaton"], "Did you mean 'activation'"),
        (["plan", "--keep", "0.8", "--rounds", "0"], "between 1 and 64"),
        (["plan", "--keep", "0.8", "--device", "cude"], "Did you mean 'cuda'"),
        (["plan", "--keep", "0.8", "--dtype", "float33"], "float32"),
        (["frontier", "--keeps", "0.9,0.01", "--out", "OUT"], "keep 0.01 of params can't be reached"),
        (["prune", "--out", "OUT", "--keep", "0.8", "--data", "shapes"], "sees no images"),
        (["eval", "--text", __file__, "--choices", __file__], "line 1: expected goal"),
    ],
)
def test_what_the_request_alone_shows_is_refused_before_weights_are_read(
    model: Model,
    tmp_path: Path,
    command: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(OpenedModel, "load", lambda *_: pytest.fail("The model was loaded."))
    words = [str(tmp_path / "out") if word == "OUT" else word for word in command[1:]]
    assert main([command[0], model(num_hidden_layers=2), *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
