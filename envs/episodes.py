"""What all environments share: whose turn it is, what may be asked at reset, and how episodes are drawn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.core import ActType, ObsType
from numpy.typing import NDArray

from prunepolicy.envs.drawing import Drawing
from prunepolicy.pruning.errors import UsageError, did_you_mean

RENDER_MODES = ["rgb_array", "ansi"]
RENDERING: dict[str, Any] = {"render_modes": RENDER_MODES, "render_fps": 2}
"""What environments declare of their pictures."""
Taken = tuple[ObsType, float, bool, dict[str, Any]]
"""Observation, reward, whether the episode has ended, and info."""


class ResetNeededError(UsageError, gymnasium.error.ResetNeeded):
    """Something was asked of an environment that has no episode running."""


class EpisodeEnv(gymnasium.Env[ObsType, ActType]):
    """Keeps the order of calls, refuses what can't be meant, and draws; subclasses begin and take steps.

    Wherever a reward is paid, the info says what it was made of: `measured`, numbers by column, and
    `terms`, which sum to the reward.

    Attributes:
        known_options: options of `reset`.
        reward: what this episode paid last; None as long as nothing was paid.
        render_mode: `rgb_array` for pictures, (height, width, 3) bytes, `ansi` for text, None for neither.
    """

    metadata: dict[str, Any] = RENDERING
    known_options: ClassVar[tuple[str, ...]]

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = known_mode(render_mode)
        self.reward: float | None = None
        self._begun = self._running = False

    @abstractmethod
    def begin(self, options: Mapping[str, Any], anew: bool) -> tuple[ObsType, dict[str, Any]]:
        """Draw an episode; return its first observation, and info.

        Args:
            options: what is fixed rather than drawn.
            anew: forget what earlier episodes have left.
        """

    @abstractmethod
    def take(self, action: ActType) -> Taken[ObsType]:
        """Do what `action`, an element of the action space, says."""

    @abstractmethod
    def drawing(self) -> Drawing:
        """Return the episode as it can be shown."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ObsType, dict[str, Any]]:
        """Begin an episode; a seed decides everything that is drawn from now on.

        Raises:
            UsageError: for an option that is unknown, or has an impossible value.
        """
        super().reset(seed=seed)
        for name in options or {}:
            if name not in self.known_options:
                hint = did_you_mean(name, self.known_options)
                raise UsageError(f"Unknown option {name!r:.80} of reset.{hint}")
        begun = self.begin(options or {}, seed is not None)
        self._begun = self._running = True
        self.reward = None
        return begun

    def step(self, action: ActType) -> tuple[ObsType, float, bool, bool, dict[str, Any]]:
        """Take one step of the episode.

        Raises:
            ResetNeededError: when no episode is running.
            UsageError: when `action` has the wrong shape, or isn't finite.
        """
        if not self._running:
            when = "The episode has ended" if self._begun else "No episode has begun"
            raise ResetNeededError(f"{when}; call reset() before step().")
        refuse_impossible(action, self.action_space)
        observation, reward, ended, info = self.take(action)
        self._running = not ended
        self.reward = reward if "terms" in info else self.reward
        return observation, reward, ended, False, info

    def render(self) -> Any:
        """Return the episode so far as a picture or a text; without a render mode warn, and return None.

        Raises:
            ResetNeededError: before the first episode.
        """
        if not self._begun:
            raise ResetNeededError("No episode has begun; call reset() before render().")
        return rendered(self, self.drawing)


def known_mode(render_mode: str | None) -> str | None:
    """Return `render_mode`, or raise `UsageError` with those there are."""
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise UsageError(f"Unknown render_mode {render_mode!r:.80}.{did_you_mean(render_mode, RENDER_MODES)}")
    return render_mode


def rendered(env: Any, drawing: Any) -> NDArray[np.uint8] | str | None:
    """Return what `drawing()` gives in the render mode of `env`."""
    if env.render_mode is None:
        name = env.spec.id if env.spec else type(env).__name__
        gymnasium.logger.warn(
            f"{name} was made without a render_mode, so there is nothing to render; "
            f"give one of {', '.join(RENDER_MODES)}."
        )
        return None
    drawn: Drawing = drawing()
    return drawn.picture() if env.render_mode == "rgb_array" else drawn.text()


def refuse_impossible(action: Any, space: spaces.Space[Any]) -> None:
    """Raise `UsageError` for what no policy could mean; numbers beyond a box's bounds are clipped later."""
    values = np.asarray(action)
    if isinstance(space, spaces.Box):
        if values.shape != space.shape or values.dtype.kind not in "fiub":
            raise UsageError(f"An action has the shape {space.shape} and numbers; got {action!r:.80}.")
        if not np.isfinite(values).all():
            raise UsageError("An action holds a number that isn't finite.")
    elif values.shape or values.dtype.kind not in "iub" or not space.contains(np.int64(action)):
        raise UsageError(f"An action is an element of {space}; got {action!r:.80}.")


def indexed(options: Mapping[str, Any], name: str, drawn: int, count: int) -> int:
    """Return the option `name`, an index below `count`, or what was drawn."""
    index = options.get(name, drawn)
    if not isinstance(index, int | np.integer) or not 0 <= index < count:
        raise UsageError(f"The option {name} is a number from 0 to {count - 1}; got {index!r:.80}.")
    return int(index)
