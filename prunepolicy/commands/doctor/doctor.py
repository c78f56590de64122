"""`prunepolicy doctor`: what can be removed from a model, what loads the result, what is missing."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from prunepolicy.commands.doctor.deployment import Widths, misfits
from prunepolicy.commands.doctor.resource_estimate import ResourceEstimate, estimate_resources
from prunepolicy.commands.doctor.runtimes import RuntimeSupport, runtimes_for
from prunepolicy.pruning.adapters import ModelAdapter, adapter_for
from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.checkpoint.checkpoint import CONFIG, Checkpoint, read_json
from prunepolicy.pruning.checkpoint.loading import carries_code, has_tokenizer
from prunepolicy.pruning.checkpoint.source import resolve
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.errors import NoWeightsError, UnsupportedModelError
from prunepolicy.pruning.io.console import Console, styled
from prunepolicy.pruning.io.safetensors_file import FLOATS
from prunepolicy.pruning.reach import least
from prunepolicy.pruning.units import KIND_NAMES, UnitGraph, UnitGroup

ALONE = "This is what the configuration alone says; there are no weights."
EXTRAS = {"torch_geometric": "train", "lm_eval": "eval", "torch_pruning": "vision", "gguf": "demo"}


@dataclass(frozen=True)
class KindFacts:
    """What one kind of unit amounts to.

    Attributes:
        groups: how many groups of it there are.
        sizes: their distinct sizes, in rising order.
        share: of all parameters that its units hold; a layer's units include what is inside it.
        least_keep: share of the parameters that stays when as many of these units go as may.
    """

    kind: str
    groups: int
    sizes: tuple[int, ...]
    share: float
    least_keep: float


@dataclass(frozen=True)
class Diagnosis:
    """Everything `doctor` found.

    Attributes:
        family: name of the adapter that knows the architecture.
        least_keep: smallest share of the parameters that any plan can reach.
        tensor_parallel: numbers of devices that whole KV heads and FFN channels divide among.
        group_sizes: quantisation group sizes that divide the input widths of all matrices in layers.
        fits: whether the devices and the group size that were asked for fit; None where none were.
        needs: None without weights.
        problems: sentences about what stands in the way or is missing.
    """

    model: str
    model_type: str
    family: str
    task: str
    params: int
    kinds: tuple[KindFacts, ...]
    least_keep: float
    runtimes: tuple[RuntimeSupport, ...]
    tensor_parallel: tuple[int, ...]
    needs: ResourceEstimate | None
    problems: tuple[str, ...]
    group_sizes: tuple[int, ...] = ()
    fits: bool | None = None

    def to_json(self) -> str:
        """Return the diagnosis as JSON text."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def render(self, console: Console) -> None:
        """Print the diagnosis."""
        console.print(
            styled(
                (self.model, "bold"),
                f": {self.model_type}, family {self.family} ({self.task}), {self.params:,} parameters; "
                f"plans can keep {self.least_keep:.1%} or more of them.",
            )
        )
        if self.kinds:
            console.print(_kinds_table(self.kinds))
            console.print(_runtimes_table(self.runtimes))
        if self.tensor_parallel:
            console.print(f"Tensor-parallel sizes: {', '.join(map(str, self.tensor_parallel))}")
            sizes = ", ".join(map(str, self.group_sizes)) or "none of the usual ones"
            console.print(f"Quantisation group sizes: {sizes}")
        if self.fits:
            console.print("What was asked for fits.", style="green")
        if self.needs:
            console.print(self.needs.sentence)
        for problem in self.problems:
            console.print(f"• {problem}", style="yellow")


def doctor(
    model: str, revision: str | None = None, tp: int | None = None, group: int | None = None
) -> Diagnosis:
    """Diagnose a model by its configuration and headers; no weight is read.

    A folder that holds a configuration but no weights is diagnosed by its configuration.

    Args:
        model: a folder, a hub id or an alias.
        revision: branch, tag or commit of a hub model.
        tp: devices that tensor parallelism is to split it over.
        group: quantisation group size that is to divide its widths.

    Raises:
        UsageError: where `tp` or `group` isn't positive.
        UnsupportedModelError: when no adapter knows the architecture and there are no weights to look at.
        BadCheckpointError: when the folder is damaged.
    """
    checkpoint, folder, lack = _opened(model, revision)
    config = checkpoint.config if checkpoint else read_json(folder / CONFIG)
    try:
        adapter = adapter_for(config, checkpoint.shapes if checkpoint else None)
    except UnsupportedModelError as error:
        if checkpoint is None:
            raise
        return _diagnosis_of_unknown(model, checkpoint, str(error))
    graph = checkpoint.graph if checkpoint else adapter.units(config, adapter.shapes(config))
    whole, tensor_parallel = cost_of(graph), _tensor_parallel(graph, config, adapter)
    unfit = tuple(misfits(graph, tensor_parallel, tp, group))
    return Diagnosis(
        model=model,
        model_type=str(config.get("model_type")),
        family=graph.family,
        task=adapter.task,
        params=whole.params,
        kinds=tuple(_kind_facts(graph, kind, whole.params) for kind in graph.kinds),
        least_keep=cost_of(graph, least(graph.groups)).params / whole.params,
        runtimes=runtimes_for(adapter, graph.family),
        tensor_parallel=tensor_parallel,
        needs=estimate_resources(checkpoint, whole.params, checkpoint.nbytes) if checkpoint else None,
        problems=(*lack, *unfit, *_problems(folder, config, adapter, checkpoint)),
        group_sizes=Widths.of(graph).group_sizes,
        fits=not unfit if tp or group else None,
    )


def _opened(model: str, revision: str | None) -> tuple[Checkpoint | None, Path, tuple[str, ...]]:
    """Return a model's checkpoint, its folder, and a note where only its configuration is there."""
    try:
        checkpoint = Checkpoint.open(resolve(model, revision))
    except NoWeightsError as error:
        if not (error.folder / CONFIG).is_file():
            raise
        return None, error.folder, (f"{ALONE} {error}",)
    return checkpoint, checkpoint.folder, ()


def _diagnosis_of_unknown(model: str, checkpoint: Checkpoint, reason: str) -> Diagnosis:
    """Return what is known of an architecture without prunable units."""
    params = sum(math.prod(shape) for shape in checkpoint.shapes.values())
    return Diagnosis(
        model=model,
        model_type=str(checkpoint.config.get("model_type")),
        family="unknown",
        task="unknown",
        params=params,
        kinds=(),
        least_keep=1.0,
        runtimes=(),
        tensor_parallel=(),
        needs=estimate_resources(checkpoint, params, checkpoint.nbytes),
        problems=(reason,),
    )


def _kind_facts(graph: UnitGraph, kind: str, params: int) -> KindFacts:
    groups = graph.of_kind(kind)
    return KindFacts(
        kind,
        len(groups),
        tuple(sorted({group.size for group in groups})),
        sum(_held(graph, tied, params) for tied in graph.ties.values() if tied[0].kind == kind) / params,
        cost_of(graph, least(groups)).params / params,
    )


def _held(graph: UnitGraph, tied: tuple[UnitGroup, ...], params: int) -> float:
    """Return the parameters in groups of equal size, scaled up from those that may go."""
    keep = least(tied)
    removable = sum(group.size - len(keep[group.name]) for group in tied)
    units = sum(group.size for group in tied)
    return (params - cost_of(graph, keep).params) * units / removable if removable else 0.0


def _tensor_parallel(graph: UnitGraph, config: Config, adapter: ModelAdapter) -> tuple[int, ...]:
    if adapter.task == "vision":
        return ()
    sizes = {group.size for group in graph.of_kind("kv_head", "ffn")}
    heads = config.get("num_attention_heads") or config.get("n_head")
    sizes |= {heads} if isinstance(heads, int) else set()
    largest = math.gcd(*sizes)
    return tuple(size for size in range(1, largest + 1) if largest % size == 0)


def _problems(
    folder: Path, config: Config, adapter: ModelAdapter, checkpoint: Checkpoint | None
) -> Iterator[str]:
    tensors = checkpoint.tensors.values() if checkpoint else ()
    if packed := [entry for entry in tensors if entry.dtype not in FLOATS and entry.shape]:
        yield (
            f"{len(packed)} tensors are stored as {packed[0].dtype}, the first is {packed[0].name!r}; "
            "prune the model before it is quantised."
        )
    yield from checkpoint.notes if checkpoint else ()
    if adapter.notice:
        yield adapter.notice
    if config.get("quantization_config"):
        yield "The configuration says that the model is quantised; prune the model before it is quantised."
    if carries_code(folder):
        yield "Only modelling code in the folder loads it, which runs only with --trust-remote-code."
    if adapter.task != "vision" and not has_tokenizer(folder):
        yield "The folder has no tokenizer: only text sampled from the model calibrates and evaluates it."
    for package, extra in EXTRAS.items():
        if importlib.util.find_spec(package) is None:
            yield f"The extra {extra!r} is not installed: pip install 'prunepolicy[{extra}]'."


def _kinds_table(kinds: tuple[KindFacts, ...]) -> Table:
    table = Table("Unit", box=None, pad_edge=False)
    for column in ("groups", "units per group", "share of parameters", "smallest keep alone"):
        table.add_column(column, justify="right")
    for facts in kinds:
        sizes = " to ".join(str(size) for size in dict.fromkeys((facts.sizes[0], facts.sizes[-1])))
        table.add_row(
            KIND_NAMES[facts.kind], str(facts.groups), sizes, f"{facts.share:.1%}", f"{facts.least_keep:.1%}"
        )
    return table


def _runtimes_table(runtimes: tuple[RuntimeSupport, ...]) -> Table:
    table = Table("Runtime", "equal layers", "layers of different width", box=None, pad_edge=False)
    for row in runtimes:
        table.add_row(row.runtime, row.uniform, row.per_layer)
    return table
