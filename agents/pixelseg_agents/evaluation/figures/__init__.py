"""The figures of a run: learning curve, the steps of single images, best to worst case, Dice by step."""

from pixelseg_agents.evaluation.figures.curves import compared_curves, dice_by_step, learning_curve
from pixelseg_agents.evaluation.figures.pictures import (
    case_figure,
    right_and_wrong,
    right_and_wrong_legend,
    step_figure,
)
from pixelseg_agents.evaluation.figures.style import save_figure

__all__ = [
    "case_figure",
    "compared_curves",
    "dice_by_step",
    "learning_curve",
    "right_and_wrong",
    "right_and_wrong_legend",
    "save_figure",
    "step_figure",
]
