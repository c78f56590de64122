"""Do results compute the same with the oldest transformers that they are said to load in?

A second environment gets that version; torch and the rest are shared, so that nothing but transformers
differs. Tiny networks of many families, with settings that the younger version has renamed, are cut here;
either version loads every result, and the outputs are compared; attention is computed step by step, since its
fast kernels differ between versions.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from prunepolicy import Budget, PruneSettings, prune
from prunepolicy.agents.recovery.stored import save_network
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import versions

OLDEST = ("transformers==4.57.*", "huggingface_hub<1.0", "tokenizers>=0.22,<=0.23.0")
DEFAULT = {"rope_type": "default", "rope_theta": 7e5}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 7e5}
OF_TWO = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 7e5},
    "sliding_attention": {"rope_type": "default", "rope_theta": 3e4},
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"rope_parameters": DEFAULT}),
    "llama, yarn": ("llama", {"rope_parameters": YARN}),
    "mistral": ("mistral", {"rope_parameters": DEFAULT, "architectures": ["MistralForCausalLM"]}),
    "qwen2": ("qwen2", {"rope_parameters": DEFAULT, "architectures": ["Qwen2ForCausalLM"]}),
    "qwen3": ("qwen3", {"rope_parameters": DEFAULT, "architectures": ["Qwen3ForCausalLM"]}),
    "qwen2_moe": ("qwen2_moe", {"rope_parameters": DEFAULT, "architectures": ["Qwen2MoeForCausalLM"]}),
    "qwen3_moe": ("qwen3_moe", {"rope_parameters": DEFAULT, "architectures": ["Qwen3MoeForCausalLM"]}),
    "mixtral": ("mixtral", {"rope_parameters": DEFAULT}),
    "gemma": ("gemma", {"rope_parameters": DEFAULT}),
    "gemma2": ("gemma2", {"rope_parameters": DEFAULT, "architectures": ["Gemma2ForCausalLM"]}),
    "gemma3_text": ("gemma3_text", {"rope_parameters": OF_TWO, "architectures": ["Gemma3ForCausalLM"]}),
    "phi3": ("phi3", {"rope_parameters": DEFAULT}),
    "gpt_neox": ("gpt_neox", {"rope_parameters": DEFAULT | {"partial_rotary_factor": 0.5}}),
    "gpt2": ("gpt2", {}),
    "opt": ("opt", {}),
    "bert": ("bert", {}),
    "vit": ("vit", {}),
}
READ = """
import json, sys, torch, transformers
rows = {}
for name, folder in json.loads(sys.argv[1]).items():
    config = json.load(open(folder + "/config.json"))
    auto = next(iter(config.get("auto_map", ())), None)
    own = {"trust_remote_code": True} if auto else {}
    kind = getattr(transformers, auto or config["architectures"][0])
    model = kind.from_pretrained(folder, attn_implementation="eager", **own).float().eval()
    inputs = {"input_ids": torch.arange(3, 43)[None]}
    if model.main_input_name == "pixel_values":
        inputs = {"pixel_values": torch.linspace(-1, 1, 768).view(1, 3, 16, 16)}
    with torch.no_grad():
        rows[name] = model(**inputs).logits.flatten()[-500:].tolist()
print(json.dumps({"transformers": transformers.__version__, "rows": rows}))
"""


def main() -> None:
    """Cut, load with both versions, compare, and write the differences."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/older_transformers.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = dict(cut_all(Path(folder)))
        older, younger = (outputs(python, results) for python in (older_python(Path(folder)), sys.executable))
    differences = {name: difference(older["rows"][name], younger["rows"][name]) for name in results}
    report = {
        "versions": versions("prunepolicy", "torch") | {"transformers": younger["transformers"]},
        "older": older["transformers"],
        "largest_difference": max(differences.values()),
        "differences": differences,
    }
    write_text(options.json, json.dumps(report, indent=1) + "\n")
    logging.info(json.dumps(report, indent=1))


def cut_all(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield name and place of one result per family, and of one with layers of different widths."""
    settings = PruneSettings(measure=False, verify=False)
    for name, (model_type, changes) in FAMILIES.items():
        source, result = folder / f"{name} whole", folder / name
        save_network(network({"model_type": model_type, **changes}), source)
        prune(str(source), result, Budget(0.5, "ffn"), "magnitude", settings)
        yield name, str(result)
    unequal = folder / "llama, unequal layers"
    prune(str(folder / "llama whole"), unequal, Budget(0.75, "ffn", uniform=False), "fisher", settings)
    yield unequal.name, str(unequal)


def network(changes: dict[str, Any]) -> torch.nn.Module:
    """Return a tiny network whose positions matter."""
    adapter = adapter_for({"model_type": changes["model_type"]})
    torch.manual_seed(0)
    model = adapter.build(adapter.tiny() | changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (parameter.dim() == 1) * 0.8)
    return model


def older_python(folder: Path) -> str:
    """Return the interpreter of an environment with the older version, before everything that is here."""
    place = folder / "older"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", *OLDEST]
    subprocess.run(install, check=True)
    own = Path(subprocess.check_output([python, "-c", SITE], text=True).strip())
    here = subprocess.check_output([sys.executable, "-c", SITE], text=True).strip()
    (own / "shared.pth").write_text(here + "\n")
    return str(python)


SITE = "import sysconfig; print(sysconfig.get_paths()['purelib'])"


def outputs(python: str, results: dict[str, str]) -> dict[str, Any]:
    """Let an interpreter load every result and say what it answers."""
    quiet = os.environ | {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1"}
    text = subprocess.check_output([python, "-c", READ, json.dumps(results)], text=True, env=quiet)
    found: dict[str, Any] = json.loads(text.splitlines()[-1])
    return found


def difference(one: list[float], other: list[float]) -> float:
    """Return the largest difference, as a share of the largest output."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) / max(map(abs, other))


if __name__ == "__main__":
    main()
