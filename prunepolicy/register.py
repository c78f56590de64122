"""Decorators that add a component of your own, under the name of the file that defines it.

```python
# half_norm.py; then: prune-with-policy MODEL --keep 0.8 --policy half_norm --plugin half_norm.py --out DIR
from prunepolicy import register

@register.criterion("weights")
def half_norm(graph, group, stats):
    return stats.get("weight_l2", group.name).sqrt()
```

A package offers its components to everyone who installs it by an entry point in the group
`prunepolicy.plugins` that names the module with the decorators.
"""

from __future__ import annotations

from functools import reduce
from importlib import import_module
from typing import Any

DECORATORS = {
    "adapter": "prunepolicy.pruning.adapters.registry:register",
    "allocator": "prunepolicy.pruning.allocators.registry:allocator",
    "criterion": "prunepolicy.pruning.criteria.registry:criterion",
    "policy": "prunepolicy.policy.base:policies.register",
    "repair": "prunepolicy.pruning.repair.registry:repair",
    "sampler": "prunepolicy.envs.thinking.sampling.registry:samplers.register",
    "shaping": "prunepolicy.envs.shaping.registry:shaping",
    "task": "prunepolicy.agents.thinking.lm.tasks.registry:task",
    "term": "prunepolicy.envs.thinking.terms.registry:terms.register",
    "verifier": "prunepolicy.envs.thinking.verifiers.registry:verifiers.register",
}
"""What can be registered, and the decorator that does it."""


def __getattr__(name: str) -> Any:
    """Import a decorator on first use."""
    if name not in DECORATORS:
        raise AttributeError(f"prunepolicy.register has no {name!r}, only {', '.join(DECORATORS)}")
    module, _, path = DECORATORS[name].partition(":")
    return reduce(getattr, path.split("."), import_module(module))


def __dir__() -> list[str]:
    return sorted(DECORATORS)
