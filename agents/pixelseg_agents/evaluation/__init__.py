"""Judging whatever decides: it knows of an agent that it has `predict`, and nothing else."""

from pixelseg_agents.evaluation.play import Predictor, evaluate, play
from pixelseg_agents.evaluation.results import EvaluationResult, expanded, table

__all__ = ["EvaluationResult", "Predictor", "evaluate", "expanded", "play", "table"]
