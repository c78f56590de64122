"""Write docs/results.md and its figures from benchmarks/results/*.json; nothing is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from calibration_tables import calibration
from cluster_tables import cluster, faults
from compatibility_tables import installs, older_transformers
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
from speed_tables import latency, startup, streaming
from thinking_tables import success_rate_control, think_bandit
from training_tables import episodes, prunenet_episode, prunenet_saturation, small_models, surrogate

from prunepolicy.pruning.io.atomic import write_text

RESULTS, DOCS = Path("benchmarks/results"), Path("docs")
Results = dict[str, Any]
SECTIONS: dict[str, Callable[[Results], str]] = {
    "quality": quality,
    "policies": policies,
    "calibration": calibration,
    "graph_policies": graph_policies,
    "recover": recover,
    "latency": latency,
    "startup": startup,
    "main_job": main_job,
    "installs": installs,
    "older_transformers": older_transformers,
    "episodes": episodes,
    "prunenet_episode": prunenet_episode,
    "prunenet_saturation": prunenet_saturation,
    "surrogate": surrogate,
    "reasoning": reasoning,
    "small_models": small_models,
    "think_bandit": think_bandit,
    "success_rate_control": success_rate_control,
    "metanet": metanet,
    "metanet_transfer": metanet_transfer,
    "metanet_smoke": metanet_smoke,
    "pretrained_networks": pretrained_networks,
    "metanet_step": metanet_step,
    "cluster": cluster,
}
"""One per results file, in the order of the document."""
FAULTS = ("lost_node", "out_of_memory")


def main() -> None:
    """Regenerate everything that the results say."""
    found = {
        file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("*.json"))
    }
    parts = ["# Results\n\nEvery number here is written by `make docs` from `benchmarks/results/`.\n"]
    parts += [section(found[name]) for name, section in SECTIONS.items() if name in found]
    lost = [found[name] for name in FAULTS if name in found]
    parts += [faults(lost)] if lost else []
    cuts = [results for name, results in found.items() if name.startswith("streaming")]
    parts += [streaming(cuts)] if cuts else []
    write_text(DOCS / "results.md", "\n".join(parts))
    write_readme(found["quality"]["rows"], Path("README.md"))
    plot_quality(found["quality"]["rows"], DOCS / "quality.png")
    if "metanet" in found:
        plot_metanet(found["metanet"], DOCS / "metanet.png")
    if "policies" in found:
        plot_policies(Comparison(found["policies"]["rows"]), DOCS / "policies.png")


if __name__ == "__main__":
    main()
