"""Environments: what comes of decisions, for policies that learn.

Importing this package registers them with gymnasium, where that is installed.
"""

from contextlib import suppress

ENVIRONMENTS = {
    "prunepolicy/Prune-v0": "prunepolicy.envs.prune_env:PruneEnv",
    "prunepolicy/PruneForText-v0": "prunepolicy.envs.prune_for_text_env:PruneForTextEnv",
    "prunepolicy/PruneRows-v0": "prunepolicy.envs.prune_rows_env:PruneRowsEnv",
    "prunepolicy/Think-v0": "prunepolicy.envs.think_env:ThinkEnv",
    "prunepolicy/ThinkSegments-v0": "prunepolicy.envs.think_segments_env:ThinkSegmentsEnv",
}
LONGEST = 10_000
"""Steps after which an episode is cut off; all of ours end by themselves, long before."""
VECTORS = {"prunepolicy/Think-v0": "prunepolicy.envs.think_vector_env:ThinkVectorEnv"}
"""Vector environments of our own, for rewards that depend on a whole batch."""

with suppress(ImportError):
    import gymnasium

    for _name, _class in ENVIRONMENTS.items():
        if _name not in gymnasium.registry:
            # They keep the order of calls themselves, with sentences of our own.
            gymnasium.register(
                _name,
                _class,
                order_enforce=False,
                # gymnasium would pass it to a vector environment, whose episodes are one step.
                max_episode_steps=None if _name in VECTORS else LONGEST,
                vector_entry_point=VECTORS.get(_name),
            )
