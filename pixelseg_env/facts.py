"""What the single and the vector environment tell of their task."""

from __future__ import annotations

from dataclasses import replace

from pixelseg_env.datasets import SegmentationDataset
from pixelseg_env.draws import Horizon, check_horizons
from pixelseg_env.rewards import Reward
from pixelseg_env.task import Task


class TaskFacts:
    """An environment's view of its `task`: data set and rules."""

    task: Task

    @property
    def dataset(self) -> SegmentationDataset:
        """The images and masks that episodes are drawn from."""
        return self.task.dataset

    @property
    def horizon(self) -> Horizon:
        """Steps of an episode, a tuple of which each draws one, or a function of its number.

        `reset(options={"horizon": h})` says otherwise for one episode. What is set counts from the next episode on, in
        a batch for all images; there `get_attr("horizon")` and `set_attr("horizon", [...])` speak of each by itself.
        """
        return self.task.horizon

    @horizon.setter
    def horizon(self, horizon: Horizon) -> None:
        self.task = replace(self.task, horizon=check_horizons(horizon))
        self._horizon_was_set()

    def _horizon_was_set(self) -> None:
        """For a batch, which has a plan for each image."""

    @property
    def transition(self) -> str:
        """`"absorbing"`, `"restorable"` or `"additive"`."""
        return self.task.transition

    @property
    def observation(self) -> str:
        """`"masked"` or `"stacked"`."""
        return self.task.observation

    @property
    def observe_time(self) -> bool:
        """Whether the last plane of an observation is 1 / steps left."""
        return self.task.observe_time

    @property
    def actions(self) -> str:
        """`"map"`, `"flat"` or `"multidiscrete"`."""
        return self.task.actions

    @property
    def order(self) -> str:
        """`"random"`, `"shuffled"` or `"sequential"`."""
        return self.task.order

    @property
    def reward(self) -> Reward:
        """The reward, to be called with `(previous, current, target)` and, where it `needs` one, a `RewardContext`."""
        return self.task.reward

    @property
    def reward_name(self) -> str:
        """The reward in words, such as `"0.7*squared_error + 0.3*dice_gain"`."""
        return str(self.task.reward)
