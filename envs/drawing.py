"""Episodes as pictures and as text: what stays of every layer, and when is thought about what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prunepolicy.envs.thinking.metrics import DifficultyBin, by_difficulty

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE, DPI = (7.2, 4.8), 100
"""Of every picture, in inches: a video needs frames of one size."""
# Of Okabe and Ito's palette, told apart by colour-blind readers.
BLUE, ORANGE, GREY, PALE = "#0072B2", "#E69F00", "#6E6E6E", "#E6E6E6"
CELLS = 20
"""Characters of a bar in text."""
MOST_LABELS = 16


class Drawing(ABC):
    """Something that can be shown."""

    @abstractmethod
    def lines(self) -> list[str]:
        """Return the text line by line."""

    @abstractmethod
    def paint(self, figure: Figure) -> None:
        """Draw onto an empty figure."""

    def text(self) -> str:
        """Return a readable text."""
        return "\n".join(self.lines())

    def picture(self) -> NDArray[np.uint8]:
        """Return a picture, shape (height, width, 3), from 0 to 255; no window and no display is used."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(SIZE, DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        self.paint(figure)
        canvas.draw()
        return np.array(canvas.buffer_rgba(), np.uint8)[:, :, :3]


@dataclass(frozen=True)
class Strip:
    """One layer of a plan.

    Attributes:
        name: of the group.
        share: of its units that stays.
        decided: whether that is settled.
        reward: what was paid for it, if anything was.
    """

    name: str
    share: float
    decided: bool
    reward: float | None = None


@dataclass(frozen=True)
class PlanDrawing(Drawing):
    """A plan that is being made.

    Attributes:
        title: network and budget.
        strips: its layers.
        used: share of the budgeted quantity that stays as decided so far.
        budget: share that may stay.
        reward: paid last, if anything was.
    """

    title: str
    strips: Sequence[Strip]
    used: float
    budget: float
    reward: float | None

    @property
    def heading(self) -> str:
        """One line about the whole."""
        return f"{self.title}: {self.used:.3f} stays, {self.budget:.3f} may, reward {_number(self.reward)}"

    def lines(self) -> list[str]:
        """Return the heading, and a bar per layer."""
        width = max(len(strip.name) for strip in self.strips)
        return [self.heading, *(f"{strip.name:{width}} {_told(strip)}" for strip in self.strips)]

    def paint(self, figure: Figure) -> None:
        """Draw a bar per layer, and one for the whole beside the line it mustn't cross."""
        layers, whole = figure.subplots(2, 1, height_ratios=[8, 1], sharex=True)
        names = [strip.name for strip in self.strips]
        colours = [BLUE if strip.decided else GREY for strip in self.strips]
        places = np.arange(len(names))
        layers.barh(places, np.ones(len(names)), 0.85, color=PALE)
        layers.barh(places, [strip.share for strip in self.strips], 0.85, color=colours)
        step = -(-len(names) // MOST_LABELS)
        layers.set_yticks(places[::step], names[::step])
        layers.set(ylim=(len(names) - 0.4, -0.6), xlim=(0, 1))
        if len(names) <= MOST_LABELS:
            for place, strip in enumerate(self.strips):
                if strip.reward is not None:
                    layers.text(0.99, place, f"reward {strip.reward:+.3g}", ha="right", va="center", size=8)
        layers.set_title(self.heading, loc="left", size=10)
        whole.barh([0], [1], color=PALE)
        whole.barh([0], [self.used], color=BLUE if self.used <= self.budget + 1e-9 else ORANGE)
        whole.axvline(self.budget, color="black", linestyle="--")
        whole.set_yticks([0], ["whole"])
        whole.set_xlabel("share that stays (grey: still open); dashed: the budget (orange: still above it)")
        _bare(layers)
        _bare(whole)


@dataclass(frozen=True)
class ThinkDrawing(Drawing):
    """Decisions on prompts since the environment began anew.

    Attributes:
        title: what is decided on now.
        difficulty, thinks, rewards: of every rollout in their order; at least one.
    """

    title: str
    difficulty: NDArray[np.float64]
    thinks: NDArray[np.bool_]
    rewards: NDArray[np.float64]

    @property
    def heading(self) -> str:
        """One line about the whole."""
        if not len(self.rewards):
            return f"{self.title}; no rollout yet"
        return (
            f"{self.title}; last {len(self.rewards)} rollouts: think rate {self.thinks.mean():.2f}, "
            f"mean reward {self.rewards.mean():+.3f}, last {self.rewards[-1]:+.3g}"
        )

    @property
    def bins(self) -> list[DifficultyBin]:
        """Think rates from easy to hard."""
        return by_difficulty(self.thinks, self.difficulty) if len(self.thinks) else []

    def lines(self) -> list[str]:
        """Return the heading, and a bar per bin of difficulty."""
        told = (f"{_bar(each.mean)} {each.mean:.2f} of {each.rows}" for each in self.bins)
        ranges = (f"difficulty {each.low:.2f} to {each.high:.2f}" for each in self.bins)
        return [self.heading, *map(" ".join, zip(ranges, told, strict=True))]

    def paint(self, figure: Figure) -> None:
        """Draw the think rate by difficulty, and the reward from rollout to rollout."""
        rates, paid = figure.subplots(1, 2)
        figure.suptitle(self.heading, x=0.02, ha="left", size=10)
        places = np.arange(len(self.bins))
        rates.bar(places, [each.mean for each in self.bins], color=BLUE)
        rates.set_xticks(places, [f"{each.low:.2f} to\n{each.high:.2f}" for each in self.bins])
        rates.set(ylim=(0, 1), xlabel="difficulty", ylabel="think rate")
        rates.tick_params(axis="x", labelsize=8)
        order = np.arange(1, len(self.rewards) + 1)
        paid.plot(order, self.rewards, ".", color=GREY, markersize=3, label="reward")
        paid.plot(order, np.cumsum(self.rewards) / order, color=ORANGE, label="mean so far")
        paid.set(xlabel="rollout", ylabel="reward")
        paid.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8)
        _bare(rates)
        _bare(paid)


def _told(strip: Strip) -> str:
    paid = "" if strip.reward is None else f" reward {_number(strip.reward)}"
    return f"{_bar(strip.share)} {strip.share:.3f}{'' if strip.decided else ' (open)'}{paid}"


def _bar(share: float) -> str:
    full = round(share * CELLS)
    return "█" * full + "░" * (CELLS - full)


def _number(reward: float | None) -> str:
    return "none yet" if reward is None else f"{reward:+.3g}"


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
