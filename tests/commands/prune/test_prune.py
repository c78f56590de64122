"""Several sizes from one run, and what later runs don't do again: the results are the same bytes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prunepolicy import Budget, PrunePolicyError, PruneSettings, prune
from prunepolicy.cli import main
from prunepolicy.commands.prune import job
from prunepolicy.commands.prune import measure as quality
from prunepolicy.commands.prune.prune import prune_sizes
from prunepolicy.commands.report.report import PruneReport
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.pruning.io.progress import Event
from prunepolicy.pruning.session import model_session as session
from prunepolicy.pruning.session.opened_model import Hardware

Model = Callable[..., str]
FFN = [Budget(0.75, "ffn"), Budget(0.5, "ffn")]
QUICKLY = PruneSettings(hardware=Hardware("cpu", "float32"), measure=False, verify=False)
POLICY = Heuristic(HeuristicConfig(samples=4, length=16, repair="reconstruction"), "quick")


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts how often the model is watched."""
    found: Counter[str] = Counter()
    for name in ("gate_gradients", "probe_inputs"):
        function = getattr(session, name)

        def counted(*arguments: Any, _name: str = name, _function: Any = function) -> Any:
            found[_name] += 1
            return _function(*arguments)

        monkeypatch.setattr(session, name, counted)
    return found


def test_a_second_run_reuses_statistics_says_so_and_gives_the_same_bytes(
    model: Model, tmp_path: Path, passes: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name, heard = model(), []  # type: str, list[Event]
    first = prune(name, tmp_path / "1", FFN[0], POLICY, QUICKLY)
    again = prune(name, tmp_path / "2", FFN[0], POLICY, QUICKLY, heard.append)
    assert passes["gate_gradients"] == 1
    assert (first.origin.reused, again.origin.reused) == ((), ("statistics", "calibration data"))
    assert "statistics, calibration data" in (tmp_path / "2/README.md").read_text()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    without = prune(name, tmp_path / "3", FFN[0], POLICY, QUICKLY)
    assert (passes["gate_gradients"], without.origin.reused) == (2, ())
    assert weights(tmp_path / "1") == weights(tmp_path / "2") == weights(tmp_path / "3")
    assert (tmp_path / "1/plan.json").read_bytes() == (tmp_path / "2/plan.json").read_bytes()


@pytest.mark.parametrize("command", ["plan", "frontier"])
def test_other_commands_reuse_them_too(
    command: str, model: Model, quick: str, tmp_path: Path, passes: Counter[str], capsys: Any
) -> None:
    name, common = model(), ("--policy", quick, "--dtype", "float32")
    sizes = ("--keep", "0.8") if command == "plan" else ("--keeps", "0.75,0.5", "--of", "ffn")
    assert main(["prune", name, "--keep", "0.9", "--out", str(tmp_path / "out"), *common, "--dry-run"]) == 0
    assert "statistics (reused)" not in capsys.readouterr().out
    assert main([command, name, *sizes, "--out", str(tmp_path / command), *common]) == 0
    assert "statistics (reused)" in capsys.readouterr().out
    assert passes["gate_gradients"] == 1


def test_several_sizes_are_what_each_is_alone_and_the_model_is_watched_once(
    model: Model, tmp_path: Path, passes: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # so that nothing comes from there
    name = model()
    reports = prune_sizes(name, tmp_path / "sizes", FFN, POLICY, QUICKLY)
    assert passes == {"gate_gradients": 1, "probe_inputs": 1}
    for report, budget in zip(reports, FFN, strict=True):
        folder = tmp_path / f"sizes/keep-{budget.keep}"
        assert report.folder == str(folder)
        prune(name, tmp_path / "alone", budget, POLICY, replace(QUICKLY, overwrite=True))
        assert weights(folder) == weights(tmp_path / "alone")


@pytest.mark.parametrize("measure", [True, False])
def test_steps_are_counted_to_the_last(
    measure: bool, model: Model, quick: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "MOST", quality.FEWEST)
    heard: list[Event] = []
    settings = replace(QUICKLY, measure=measure)
    reports = prune_sizes(model(), tmp_path / "sizes", FFN, quick, settings, heard.append)
    numbers = [event.number for event in heard]
    assert numbers == sorted(numbers, key=lambda number: number or 0)
    assert heard[-1].number == heard[-1].of == (9 if measure else 6)
    assert heard[-1].ended
    if measure:
        assert reports[0].before.score == reports[1].before.score is not None
        assert reports[0].before.samples == reports[1].before.samples
        assert [event.step for event in heard if event.ended].count("sample evaluation text") == 1


def test_a_size_that_cannot_be_met_is_refused_before_the_first_is_made(
    model: Model, quick: str, tmp_path: Path
) -> None:
    with pytest.raises(PrunePolicyError, match=r"0\.01"):
        prune_sizes(model(), tmp_path / "sizes", [0.8, 0.01], quick, QUICKLY)
    assert not list((tmp_path / "sizes").rglob("*.safetensors"))


def test_an_interrupted_run_goes_on_with_the_sizes_that_are_left(
    model: Model, quick: str, tmp_path: Path, interrupt_at: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out = tmp_path / "sizes"
    arguments = ["prune", model(), "--keep", "0.9,0.8", "--out", str(out), "--policy", quick]
    arguments += ["--dtype", "float32", "--no-verify", "--no-measure"]
    monkeypatch.setattr("sys.argv", ["prunepolicy", *arguments])
    interrupt_at(job, "publish", 2)
    assert main(arguments) == 130
    written = (out / "keep-0.9/model.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert f"{out / 'keep-0.9'} exists already; skipped." in printed
    assert printed.rstrip().endswith(str(out / "keep-0.8"))
    assert (out / "keep-0.9/model.safetensors").stat().st_mtime_ns == written
    monkeypatch.setattr("sys.argv", ["prunepolicy", *arguments, "--seed", "1"])
    assert main([*arguments, "--seed", "1"]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_programs_get_a_list_of_several_sizes(model: Model, quick: str, tmp_path: Path, capsys: Any) -> None:
    arguments = ["prune", model(), "--keep", "0.9,0.8", "--out", str(tmp_path / "out"), "--policy", quick]
    arguments += ["--dtype", "float32", "--no-verify", "--no-measure", "--json"]
    assert main([*arguments, "--dry-run"]) == 0
    plans = json.loads(capsys.readouterr().out)
    assert [plan["budget"]["keep"] for plan in plans] == [0.9, 0.8]
    assert not (tmp_path / "out").exists()
    assert main(arguments) == 0
    reports = [PruneReport.from_json(json.dumps(one)) for one in json.loads(capsys.readouterr().out)]
    assert [report.budget.keep for report in reports] == [0.9, 0.8]
