"""Write docs/results.md and docs/results/ from benchmarks/results/*.json; nothing is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adaptive_tables import adaptive, adaptive_speed
from calibration_tables import calibration
from chaos_tables import PROMISES, chaos
from cluster_tables import cluster, faults
from compatibility_tables import installs, older_transformers
from cost_tables import layer_by_layer, repair_cost
from expert_tables import experts
from family_tables import families, write_readme_families
from for_text_tables import for_text, for_text_repaired, write_readme_for_text
from graph_tables import graph_policies
from main_job_tables import main_job
from metanet_step_tables import metanet_step
from metanet_tables import metanet, metanet_transfer, plot_metanet
from policy_figure import plot_policies
from policy_tables import Comparison, policies
from pretrained_tables import metanet_smoke, pretrained_networks
from quality_tables import plot_quality, quality, write_readme
from reasoning_tables import reasoning
from recover_tables import recover
from recovery_tables import recovery
from speed_tables import latency, startup, streaming
from summary_table import summary
from thinking_tables import router_overhead, success_rate_control, think_bandit
from training_tables import episodes, prunenet_episode, prunenet_saturation, small_models, surrogate
from vocabulary_tables import vocabulary

from prunepolicy.pruning.io.atomic import write_text

RESULTS, DOCS = Path("benchmarks/results"), Path("docs")
TOPICS = DOCS / "results"
Results = dict[str, Any]
DOCUMENTS: dict[str, tuple[str, dict[str, Callable[[Results], str]]]] = {
    "quality": (
        "Quality after pruning, repair and distillation",
        {"quality": quality, "recover": recover, "recovery": recovery, "vocabulary": vocabulary},
    ),
    "policies": (
        "Criteria, searches and learned policies",
        {"policies": policies, "graph_policies": graph_policies, "experts": experts},
    ),
    "calibration": ("Calibration data", {"calibration": calibration}),
    "for_text": (
        "Choices that follow a text",
        {
            "for_text": for_text,
            "for_text_repaired": for_text_repaired,
            "adaptive": adaptive,
            "adaptive_speed": adaptive_speed,
        },
    ),
    "speed": (
        "Speed and resources",
        {
            "latency": latency,
            "startup": startup,
            "main_job": main_job,
            "repair_cost": repair_cost,
            "layer_by_layer": layer_by_layer,
        },
    ),
    "compatibility": (
        "Where it installs, where results load",
        {"families": families, "installs": installs, "older_transformers": older_transformers},
    ),
    "training": (
        "What learning a policy takes",
        {
            "episodes": episodes,
            "prunenet_episode": prunenet_episode,
            "prunenet_saturation": prunenet_saturation,
            "surrogate": surrogate,
            "small_models": small_models,
        },
    ),
    "thinking": (
        "When to think",
        {
            "reasoning": reasoning,
            "think_bandit": think_bandit,
            "success_rate_control": success_rate_control,
            "router_overhead": router_overhead,
        },
    ),
    "metanetworks": (
        "Metanetworks and image classifiers",
        {
            "metanet": metanet,
            "metanet_transfer": metanet_transfer,
            "metanet_smoke": metanet_smoke,
            "pretrained_networks": pretrained_networks,
            "metanet_step": metanet_step,
        },
    ),
    "cluster": ("Cluster", {"cluster": cluster}),
    "security": ("Damage, kills, full disks, hostile servers", {}),
}
"""By the name of the document: its title, and a section per results file, in order."""
FAULTS = ("lost_node", "out_of_memory")


def main() -> None:
    """Regenerate everything that the results say."""
    found = {
        file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("*.json"))
    }
    titles = {name: title for name, (title, _) in DOCUMENTS.items()}
    write_text(DOCS / "results.md", summary(found, titles))
    for name in DOCUMENTS:
        write_text(TOPICS / f"{name}.md", document(name, found))
    write_readme(found["quality"]["rows"], Path("README.md"))
    if "for_text_repaired" in found:
        write_readme_for_text(found["for_text_repaired"], Path("README.md"))
    if "families" in found:
        write_readme_families(found["families"], Path("README.md"))
    plot_quality(found["quality"]["rows"], TOPICS / "quality.png")
    if "metanet" in found:
        plot_metanet(found["metanet"], TOPICS / "metanet.png")
    if "policies" in found:
        plot_policies(Comparison(found["policies"]["rows"]), TOPICS / "policies.png")


def document(name: str, found: dict[str, Results]) -> str:
    """Return one document of docs/results/."""
    title, sections = DOCUMENTS[name]
    parts = [f"# {title}\n\nWritten by `make docs` from `benchmarks/results/`; [summary](../results.md).\n"]
    parts += [section(found[file]) for file, section in sections.items() if file in found]
    lost = [found[file] for file in FAULTS if file in found]
    parts += [faults(lost)] if name == "cluster" and lost else []
    attacks = {file: found[file] for file in PROMISES if file in found}
    parts += [chaos(attacks)] if name == "security" and attacks else []
    cuts = [results for file, results in found.items() if file.startswith("streaming")]
    parts += [streaming(cuts)] if name == "speed" and cuts else []
    return "\n".join(parts)


if __name__ == "__main__":
    main()
