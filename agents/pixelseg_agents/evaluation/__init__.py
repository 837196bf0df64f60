"""Judging whatever decides: it knows of an agent that it has `predict`, and nothing else."""

from pixelseg_agents.evaluation.deciding import Predictor
from pixelseg_agents.evaluation.judging import JUDGED_AT, JudgeAt, ceiling
from pixelseg_agents.evaluation.play import evaluate, play, sees_time, segment
from pixelseg_agents.evaluation.results import EvaluationResult, expanded, table

__all__ = [
    "JUDGED_AT",
    "EvaluationResult",
    "JudgeAt",
    "Predictor",
    "ceiling",
    "evaluate",
    "expanded",
    "play",
    "sees_time",
    "segment",
    "table",
]
