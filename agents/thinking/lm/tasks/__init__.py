"""One file per task: problems with an answer, a difficulty, and the steps that lead to the answer."""

from prunepolicy.agents.thinking.lm.tasks.registry import Problem, ProblemTask, tasks

__all__ = ["Problem", "ProblemTask", "tasks"]
