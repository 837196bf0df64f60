"""What a cell may be: learners and named settings, which a study lists. The mechanism knows no study by name.

Whatever stands in `pixelseg_agents.registry` or is one of the references is a learner without being listed, and so is
`module:name`: a class with the face of `PixelAgent`, or a factory of the reader's own. A study adds names for readers,
variants with something fixed, and settings. Facts about an agent come from its class.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pixelseg_agents.references import REFERENCES, Reference
from pixelseg_agents.registry import AGENTS, ALIASES, agent_class, registered_agents
from pixelseg_env import OptionError, check_choice, resolve


@dataclass(frozen=True)
class Facts:
    """What tables and figures have to know of a learner.

    Attributes:
        label: its name for readers.
        family: "actor-critic", "q-learning", "refinement", "supervised", "reference", or one of its own.
        supervised: whether it learns from the target instead of rewards.
        looks_once: whether it decides at its first look and knows no later ones.
        colour: in figures; none: the next that is free.
    """

    label: str
    family: str = ""
    supervised: bool = False
    looks_once: bool = False
    colour: str = ""

    @property
    def reference(self) -> bool:
        """Whether it learns nothing."""
        return self.family == "reference"

    @property
    def competes(self) -> bool:
        """Whether it is one of the agents that are compared; the others stand beside them."""
        return not (self.reference or self.supervised)


@dataclass(frozen=True)
class Learner:
    """A row of the grid: an agent, and what the study fixes about it.

    Attributes:
        name: in records and on the command line.
        agent: a reference, a registered agent or `module:name`; none: as `name`.
        label: its name for readers; none: that of its class.
        hyper: hyperparameters that stay as they are, whatever a setting or the search says.
        env: rules of its environment, beside those that its class asks for.
        tuned_as: the learner whose tuned hyperparameters it has; none: its own.
        start: hyperparameters of the supervised network whose maps a learner that refines starts from.
        start_share: the share of the passes that goes to that network.
        colour: in figures; none: the next that is free.
    """

    name: str
    agent: str = ""
    label: str = ""
    hyper: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, Any] = field(default_factory=dict)
    tuned_as: str = ""
    start: Mapping[str, Any] = field(default_factory=dict)
    start_share: float = 0.25
    colour: str = ""

    @property
    def kind(self) -> Any:
        """The class of the agent or reference, or the factory.

        Raises:
            OptionError: the name is not known (the message gives the nearest), or the plug-in cannot be loaded or used.
        """
        value = self.agent or self.name
        found = resolve("agent", ALIASES.get(value, value), REFERENCES | AGENTS)
        if hasattr(found, "config_class"):
            return agent_class(value)
        if not callable(found):
            raise OptionError(
                f"agent={value!r}: expected a class with the face of PixelAgent, or factory(env, seed=..., "
                f"passes=...), got {type(found).__name__}"
            )
        return found

    @property
    def reference(self) -> bool:
        """Whether it learns nothing."""
        kind = self.kind
        return isinstance(kind, type) and issubclass(kind, Reference)

    @property
    def factory(self) -> bool:
        """Whether it is the reader's own, trains by itself, and is known by its `predict` alone.

        `factory(env, seed=..., passes=...)` gets the training environment and the budget of image passes, and returns
        an object with Stable-Baselines3's `predict`.
        """
        return not self.reference and not hasattr(self.kind, "config_class")

    @property
    def facts(self) -> Facts:
        """What tables and figures have to know; a class may leave out what is as usual."""
        kind = self.kind
        name = getattr(kind, "name", None)
        label = self.label or (name if isinstance(name, str) else self.name)
        supervised, looks_once = (bool(getattr(kind, fact, False)) for fact in ("supervised", "looks_once"))
        return Facts(label, str(getattr(kind, "family", "")), supervised, looks_once, self.colour)

    @property
    def refines(self) -> bool:
        """Whether it starts from a map of probabilities instead of the whole image."""
        return "absorbing" not in self._transitions and "additive" in self._transitions

    @property
    def rules(self) -> dict[str, Any]:
        """The rules of its environment that no setting changes."""
        if "absorbing" in self._transitions:
            return dict(self.env)
        asked = {"transition": self._transitions[0]} | ({"observation": "stacked"} if self.refines else {})
        return asked | dict(self.env)

    @property
    def _transitions(self) -> tuple[str, ...]:
        return tuple(getattr(self.kind, "transitions", ("absorbing",)))


@dataclass(frozen=True)
class Setting:
    """One way to train and judge an agent; what it does not name is as in `default`.

    Attributes:
        hyper: changes to the agent's hyperparameters; those that an agent does not have do not apply to it.
        env: changes to the environment.
        data: changes to the data set's own options.
        shots: how many training images the agent gets, drawn with the cell's seed; None: all.
        judged: steps of the test episodes. The metrics are those after step `horizon`, the curve goes on (Fig. 7).
        passes: share of the budget of network passes.
        parts: what the trained agent is judged on; the search never looks at test patients.
        tuned: whether the hyperparameters that the search has found apply.
    """

    hyper: dict[str, Any] = field(default_factory=dict)
    env: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    shots: int | None = None
    judged: int = 15
    passes: float = 1.0
    parts: tuple[str, ...] = ("val", "test")
    tuned: bool = True


@dataclass(frozen=True)
class Study:
    """What one comparison lists.

    Attributes:
        learners: in the order of its tables, references too.
        settings: by name; "default" is among them.
        search: the settings that the search tries.
    """

    learners: tuple[Learner, ...] = ()
    settings: Mapping[str, Setting] = field(default_factory=lambda: {"default": Setting()})
    search: tuple[str, ...] = ()

    def learner(self, name: str) -> Learner:
        """The learner of a name: one that the study lists, or any that can be found.

        A registered name or `module:name` that the study lists under another name, with nothing fixed, is that one.

        Raises:
            OptionError: the name is not known; the message gives the nearest.
        """
        plain = [one for one in self.learners if one.agent == name and not one.hyper and not one.env]
        found = [one for one in self.learners if one.name == name] or plain
        if found:
            return found[0]
        if ":" not in name:
            listed = {one.name for one in self.learners}
            check_choice("agent", name, {*listed, *REFERENCES, *registered_agents(), *ALIASES})
        return Learner(name)

    def setting(self, name: str) -> Setting:
        """The setting of a name.

        Raises:
            OptionError: the name is not known; the message gives the nearest.
        """
        return self.settings[check_choice("setting", name, self.settings)]

    def lists(self, name: str) -> bool:
        """Whether what tables have to know of a learner can be told from its name, without code of the reader's own."""
        return self.has(name) or name in {*REFERENCES, *AGENTS, *ALIASES}

    def has(self, name: str) -> bool:
        """Whether a learner has this name in the study."""
        return any(one.name == name for one in self.learners)


@functools.cache
def load_study(module: str) -> Study:
    """The `STUDY` of a module, which the processes of a grid can import; that of no module has one setting.

    Raises:
        OptionError: there is no such module, or no `Study` in it.
    """
    if not module:
        return Study()
    found: Any = resolve("study", f"{module}:STUDY", {})
    if not isinstance(found, Study):
        raise OptionError(f"study={module!r}: expected a module whose STUDY is a Study, got {type(found).__name__}")
    return found
