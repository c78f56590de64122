"""Where a run's work is done: YAML in, checked settings out."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import Field

from prunepolicy.pruning.errors import UsageError, did_you_mean
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.config import StrictConfig, checked

SHIPPED = Path(str(files("prunepolicy.configs"))) / "cluster"


class LearnerSettings(StrictConfig):
    """What the process that learns takes, beside its workers.

    Attributes:
        gpus: that a submitted job reserves for it, so that no worker is given the same ones.
    """

    gpus: float = Field(default=0.0, ge=0)


class ClusterSettings(StrictConfig):
    """Workers, what each of them takes, and how long they are waited for.

    Attributes:
        runner: `ray`, or `processes` of this machine without Ray.
        address: of the Ray cluster: `local` starts one here, `auto` takes RAY_ADDRESS or the one that runs
            here, HOST:PORT another one.
        workers: how many; None takes as many as fit.
        cpus: of every worker. Fractions let several share one.
        gpus: of every worker: 0.5 lets two share one, 2 gives each two.
        learner: what the learner takes; jobs of `submit` reserve it.
        threads: of torch, in every worker; another number may change the last bits of a result.
        strategy: how Ray's placement group spreads workers over nodes.
        deadline: seconds that an episode, an evaluation or a chunk of answers may take, loading of models
            included, before its worker counts as hung; None waits for ever.
        attempts: workers that may be lost with one and the same job.
        start: seconds to wait for the first worker.
    """

    runner: Literal["ray", "processes"] = "ray"
    address: str = Field(default="auto", min_length=1)
    workers: int | None = Field(default=None, ge=1)
    cpus: float = Field(default=1.0, gt=0)
    gpus: float = Field(default=0.0, ge=0)
    learner: LearnerSettings = LearnerSettings()
    threads: int = Field(default=1, ge=1)
    strategy: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"
    deadline: float | None = Field(default=600.0, gt=0)
    attempts: int = Field(default=3, ge=1)
    start: float = Field(default=300.0, gt=0)

    @property
    def needs(self) -> dict[str, float]:
        """What a worker takes, by the names that Ray has for it."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})


def load_settings(name: str) -> ClusterSettings:
    """Read the settings that are called `name`: a file, or one that ships.

    Raises:
        UsageError: when there is none, or a key or value is wrong.
    """
    source = Path(name) if name.endswith((".yaml", ".yml")) else SHIPPED / f"{name}.yaml"
    if not source.is_file():
        known = [file.stem for file in SHIPPED.glob("*.yaml")]
        raise UsageError(f"There is no cluster {name!r}: name a YAML file.{did_you_mean(name, known)}")
    try:
        data = bounded.read_yaml(source)
    except (OSError, ValueError) as error:
        raise UsageError(f"Can't read the cluster {source}: {bounded.why(error)}.") from error
    if not isinstance(data, dict):
        raise UsageError(f"The cluster {source} must be a mapping of keys to values.")
    return checked(ClusterSettings, data, str(source))
