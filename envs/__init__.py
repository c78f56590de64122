"""Environments: what comes of plans, for policies that learn.

Importing this package registers them with gymnasium, where that is installed.
"""

from contextlib import suppress

ENVIRONMENTS = {
    "prunepolicy/Prune-v0": "prunepolicy.envs.prune_env:PruneEnv",
    "prunepolicy/PruneRows-v0": "prunepolicy.envs.prune_rows_env:PruneRowsEnv",
}

with suppress(ImportError):
    import gymnasium

    for _name, _class in ENVIRONMENTS.items():
        if _name not in gymnasium.registry:
            gymnasium.register(_name, entry_point=_class)
