"""The one-screen summary of all results: what beats what, by how much, on what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import mean, median
from typing import Any

from cells import four, percent, table
from expert_tables import mean_rises
from for_text_tables import excess_of
from metanet_tables import best_other, best_way, paired_differences
from policy_tables import Comparison, Place

MARGIN = 0.05
"""Share that seeds alone may move."""
Found = Mapping[str, Any]
Row = tuple[str, str, str, str]
OWN_TEXT_CRITERIA = ("activation", "fisher", "fisher x activation", "taylor", "magnitude (largest)")
INTRODUCTION = """# Results

What beats what, by how much, on what. Every number here and in the linked documents is written by `make docs`
from `benchmarks/results/`; nothing was tuned on the evaluation data. Each row is one
setting; the linked documents have all budgets, seeds and intervals, also those where the answer differs.
"""


def summary(found: Found, documents: Mapping[str, str]) -> str:
    """Return the document.

    Args:
        found: results files by name.
        documents: title by file name, in order.
    """
    rows = [row for names, write in ANSWERS.items() if all(n in found for n in names) for row in write(found)]
    contents = [f"- [{title}](results/{name}.md)" for name, title in documents.items()]
    head = ("question", "answer", "measured on", "more")
    return "\n".join([INTRODUCTION, table(head, rows), "", "All documents:\n", *contents, ""])


def _quality(found: Found) -> list[Row]:
    rows = found["quality"]["rows"]

    def perplexity(method: str, keep: float = 0.8) -> float:
        of = "params"
        return median(r["prose"] for r in rows if (r["method"], r["of"], r["keep"]) == (method, of, keep))

    best = min(OWN_TEXT_CRITERIA, key=perplexity)
    scored = "SmolLM2-135M, prose, keep 0.8 of params, 3 seeds"
    repaired, bare = perplexity("default"), perplexity("fisher x activation, varied text")
    return [
        (
            "Is the default better than one criterion alone?",
            f"{_yes(repaired < perplexity(best))}: perplexity {four(repaired)}; {best} "
            f"{four(perplexity(best))}, random {four(perplexity('random'))}, dense "
            f"{four(perplexity('dense', 1.0))}",
            scored,
            "[quality](results/quality.md)",
        ),
        (
            "What does closed-form repair bring?",
            f"perplexity {four(bare)} without, {four(repaired)} with reconstruction",
            scored,
            "[quality](results/quality.md#reconstruction-instead-of-ridge)",
        ),
    ]


def _recovery(found: Found) -> list[Row]:
    results = found["recovery"]
    dense = next(row for row in results["rows"] if row["way"] == "dense")["nll"]
    excess = {
        row["way"]: mean(row["nll"][kind] - dense[kind] for kind in dense)
        for row in results["rows"]
        if row["seed"] == 0 and row["minutes"] in (0, 5)
    }
    return [
        (
            "What does knowledge distillation bring after that?",
            f"five CPU minutes: excess log-perplexity {excess['repaired']:.3f} to {excess['recovery']:.3f}; "
            f"a flat pass of equal time comes to {excess['flat']:.3f}",
            f"SmolLM2-135M, keep {results['keep']:g} of params, {len(dense)} kinds of text, 1 seed",
            "[quality](results/quality.md#recovery-to-a-budget---recover-20m)",
        )
    ]


def _policies(found: Found) -> list[Row]:
    place = Place("params", 0.8, True)
    compared = Comparison(found["graph_policies"]["rows"])
    learned, before = (median(compared.relative(m, place)) - 1 for m in ("graph", "graph, unlearned"))
    after = median(compared.relative("graph", Place("params", 0.8, True, "repaired"))) - 1
    return [
        (
            "Do learned policies beat the best criterion?",
            f"{_yes(learned < before - MARGIN and after < 0)}: excess log-perplexity of the graph policy "
            f"{learned:+.1%} against the best hand-made criterion, of the same policy before it learned "
            f"{before:+.1%}; after the default's repair {after:+.1%}",
            "SmolLM2-135M, keep 0.8 of params, equal widths, 3 seeds (repaired: 1)",
            "[policies](results/policies.md#graph-policies)",
        )
    ]


def _experts(found: Found) -> list[Row]:
    def said(keep: float) -> str:
        rises = mean_rises(found["experts"], keep)
        best = min(rises, key=lambda name: rises[name])
        others = ", ".join(f"{name} {rises[name]:+.3f}" for name in ("activation", "random") if name != best)
        return f"{keep:.0%} kept: {best} {rises[best]:+.3f}, {others}"

    return [
        (
            "Which criterion for experts?",
            f"nats per token, {'; '.join(map(said, (0.75, 0.5, 0.25)))}",
            found["experts"]["model"],
            "[policies](results/policies.md#experts)",
        )
    ]


def _calibration(found: Found) -> list[Row]:
    rows = found["calibration"]["rows"]
    dense = next(row for row in rows if row["method"] == "dense")

    def excess(text: str, scored: str) -> str:
        at = ("fisher x activation", text, "ffn", 0.8)
        row = next(r for r in rows if (r["method"], r.get("text"), r["of"], r["keep"]) == at)
        return f"{row[scored] - dense[scored]:.3f}"

    return [
        (
            "How much does the calibration data matter?",
            f"excess log-perplexity of prose {excess('self', 'prose')} calibrated on "
            f"sampled text, {excess('other pages', 'prose')} on the same stories; of code "
            f"{excess('self', 'code')} and {excess('other pages', 'code')}",
            "SmolLM2-135M, keep 0.8 of ffn, fisher x activation, no repair, 1 seed",
            "[calibration](results/calibration.md)",
        )
    ]


def _for_text(found: Found) -> list[Row]:
    rows = found["for_text"]["rows"]
    excess = excess_of(rows)

    def average(scorer: str, shown: int) -> float:
        return mean(excess[scorer, shown, 0.7].values())

    def both(scorer: str) -> str:
        return " and ".join(f"{average(scorer, n):.3f}" for n in shown)

    shown = (128, 512)
    generic = average("generic", 0)
    pays = max(average("ahead", n) for n in shown) < generic
    kinds = len(excess["blend", shown[0], 0.7])
    seeds = len({row["seed"] for row in rows if row["scorer"] == "ahead"})
    return [
        (
            "Does it pay to choose for the text at hand?",
            f"{_yes(pays)}: excess log-perplexity {both('ahead')} from {shown[0]} and {shown[1]} tokens "
            f"of it and what the model goes on with, {generic:.3f} from text of all kinds; the blend of both "
            f"without the model's words has {both('blend')}, trained factors {both('offsets')}",
            f"SmolLM2-135M, {kinds} kinds of text, keep 0.7 of ffn, no repair, {seeds} seeds",
            "[for text](results/for_text.md)",
        )
    ]


def _for_text_repaired(found: Found) -> list[Row]:
    rows = found["for_text_repaired"]["rows"]
    excess, shown = excess_of(rows), (128, 512)
    read, repaired = (
        " and ".join(f"{mean(excess[scorer, n, 0.7].values()):.3f}" for n in shown)
        for scorer in ("ahead", "generic")
    )
    generic = mean(excess["generic", 0, 0.7].values())
    pays = max(mean(excess["ahead", n, 0.7].values()) for n in shown) < generic
    seeds = len({row["seed"] for row in rows})
    return [
        (
            "And after the repair?",
            f"{_yes(pays)}: {read} where the choice and the repair read {shown[0]} and {shown[1]} tokens, "
            f"{repaired} where the repair alone does, {generic:.3f} where neither does",
            f"the same, default's repair, {'one seed' if seeds == 1 else f'{seeds} seeds'}",
            "[for text](results/for_text.md)",
        )
    ]


def _latency(found: Found) -> list[Row]:
    speeds = {
        f"{cut}, {row['phase']}": row["speedup"]
        for cut, report in found["latency"].items()
        for row in report["measurements"]
        if row["batch"] == 1
    }
    answer = "; ".join(
        f"{name} {speed['ratio']:.2f} ({speed['low']:.2f} to {speed['high']:.2f})"
        for name, speed in speeds.items()
    )
    faster = all(speed["low"] > 1 for speed in speeds.values())
    return [
        (
            "Is the result faster?",
            f"{_yes(faster)}, times as fast: {answer}",
            "SmolLM2-135M, keep 0.8, batch 1, 2 CPU threads, 95 % intervals",
            "[speed](results/speed.md)",
        )
    ]


def _streaming(found: Found) -> list[Row]:
    run, cache = found["streaming_13gib"], "warm"
    return [
        (
            "What does cutting a large checkpoint take?",
            f"{run['source_bytes'] / 2**30:.1f} GiB in {run[cache]['cut_seconds']:.0f} s (a copy: "
            f"{run[cache]['copy_seconds']:.0f} s), peak memory {run[cache]['cut_peak_mib']} MiB",
            "LLaMA-2-7B shapes, 1 round",
            "[speed](results/speed.md#streaming-cut)",
        )
    ]


def _metanet(found: Found) -> list[Row]:
    rows = found["metanet"]["rows"]

    def accuracy(method: str, speedup: float) -> float:
        return mean(r["last"] for r in rows if (r["method"], r["speedup"]) == (method, speedup))

    numbers, shown = [], []
    for speedup in (2.0, 3.0):
        way, other = best_way(rows, speedup), best_other(rows, speedup)
        ahead = paired_differences(rows, way, other, speedup)
        shown.append(min(ahead) > 0)
        numbers.append(
            f"{speedup:g}x fewer FLOPs: {percent(accuracy(way, speedup))}, best other method "
            f"{percent(accuracy(other, speedup))} (seed by seed {100 * min(ahead):+.2f} to "
            f"{100 * max(ahead):+.2f} points)"
        )
    return [
        (
            "Do metanetworks help before the cut?",
            f"{'yes' if all(shown) else 'no difference shown'}: {'; '.join(numbers)}; dense "
            f"{percent(accuracy('dense', 1.0))}",
            "ResNet-20 on Fashion-MNIST, 5 seeds",
            "[metanetworks](results/metanetworks.md)",
        )
    ]


def _pretrained(found: Found) -> list[Row]:
    rows = [r for r in found["pretrained_networks"]["rows"] if r["network"] == "cnn6" and r["speedup"] == 2.0]

    def accuracy(method: str) -> str:
        return percent(median(r["tuned"]["accuracy"] for r in rows if r["method"] == method))

    return [
        (
            "How do criteria compare on a pretrained classifier?",
            f"fisher {accuracy('fisher')}, torch-pruning's magnitude {accuracy('torch-pruning, magnitude')}, "
            f"random {accuracy('random')} at 2x fewer FLOPs, after 2 epochs",
            "six-convolution network, CIFAR-10 test split, 3 seeds",
            "[metanetworks](results/metanetworks.md#pretrained-networks-without-data-models)",
        )
    ]


def _thinking(found: Found) -> list[Row]:
    rows = [r for r in found["reasoning"]["rows"] if r["part"] == "longer"]
    own = [r for r in rows if r["method"] == "autothink_settled"]

    def figures(which: str, mode: str) -> tuple[float, float]:
        exams = [row[which][mode] for row in own]
        return median(exam["accuracy"] for exam in exams), median(exam["tokens"] for exam in exams)

    def written(accuracy: float, tokens: float) -> str:
        return f"accuracy {percent(accuracy)} with {tokens:.1f} tokens"

    learned, always = figures("learned", "auto"), figures("start", "always")
    better = learned[0] >= always[0] and learned[1] < always[1]

    return [
        (
            "Can a model learn when to think?",
            f"{_yes(better)}: {written(*learned)}; always thinking {written(*always)}, never "
            f"{written(*figures('start', 'never'))}",
            "1 M parameters, modular_chain, 3 seeds",
            "[thinking](results/thinking.md)",
        )
    ]


def _costs(found: Found) -> list[Row]:
    ways = found["metanet_step"]["ways"]
    time, memory = (ways["published"][n] / ways["ours"][n] for n in ("seconds", "peak_mib"))
    episode = found["prunenet_episode"]["function_aware_times_faster"]
    return [
        (
            "What does training cost beside the published procedures?",
            f"a metanetwork's step {time:.1f} times less CPU time and {memory:.1f} times less memory; a "
            f"PruneNet episode {episode:.0f} times faster",
            "ResNet-56; 6 layers of 1536 x 576",
            "[metanetworks](results/metanetworks.md#a-meta-step), [training](results/training.md)",
        )
    ]


def _cluster(found: Found) -> list[Row]:
    rows = {(r["way"], r["ms"]): r["efficiency"] for r in found["cluster"]["scaling"] if r["efficiency"]}
    equal = found["lost_node"]["equal"] and found["out_of_memory"]["equal"]
    return [
        (
            "Does work spread over workers, and survive a lost one?",
            f"efficiency of two workers at 50 ms an episode: {percent(rows['processes', 50])} (processes), "
            f"{percent(rows['ray', 50])} (Ray); results after a lost node or worker are "
            f"{'the same' if equal else 'NOT the same'}",
            "2 cores, one machine",
            "[cluster](results/cluster.md)",
        )
    ]


def _compatibility(found: Found) -> list[Row]:
    results = found["older_transformers"]
    return [
        (
            "Do results load in an older transformers?",
            f"{len(results['differences'])} families do; outputs differ by at most "
            f"{results['largest_difference']:.0e} of the largest",
            f"transformers {results['versions']['transformers']} and {results['older']}",
            "[compatibility](results/compatibility.md)",
        )
    ]


def _yes(shown: bool) -> str:
    return "yes" if shown else "no"


ANSWERS: dict[tuple[str, ...], Callable[[Found], list[Row]]] = {
    ("quality",): _quality,
    ("recovery",): _recovery,
    ("graph_policies",): _policies,
    ("experts",): _experts,
    ("calibration",): _calibration,
    ("for_text",): _for_text,
    ("for_text_repaired",): _for_text_repaired,
    ("latency",): _latency,
    ("streaming_13gib",): _streaming,
    ("metanet",): _metanet,
    ("pretrained_networks",): _pretrained,
    ("reasoning",): _thinking,
    ("metanet_step", "prunenet_episode"): _costs,
    ("cluster", "lost_node", "out_of_memory"): _cluster,
    ("older_transformers",): _compatibility,
}
"""What each row of the summary is made from, in order."""
