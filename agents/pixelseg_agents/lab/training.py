"""A tiny agent that is trained while one watches: a thread, limited in time, that ends when nobody looks any more."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_agents.lab.episode import Map, Rules
from pixelseg_agents.pa3c import PA3C
from pixelseg_agents.pixelrl import PixelRL
from pixelseg_env import OptionError, PixelSegVectorEnv, SegmentationDataset, load_dataset

SIDE, IMAGES, BATCH, WATCHED = 32, 48, 8, 4
EVERY = 2  # updates between two looks
UNSEEN = 15.0  # seconds after which a training ends that nobody asks about
TOTAL = 100_000  # updates; time ends it before


@dataclass(frozen=True)
class Settings:
    """What is trained, and how.

    Attributes:
        rules: of the game, see `Rules`.
        entropy: weight of the policy's entropy, PA3C's `entropy_coefficient`.
        object_weight: factor on the rewards of object pixels, PA3C's `foreground_weight`.
        learning_rate: of Adam.
        seed: of the training.
    """

    rules: Rules
    entropy: float = 0.02
    object_weight: float = 1.0
    learning_rate: float = 3e-3
    seed: int = 0


@dataclass(frozen=True)
class Look:
    """What a training was like after some updates, on pictures that it never learns from.

    Attributes:
        updates: done so far.
        seconds: since it began.
        earned: the discounted return of an episode, the mean over pixels and pictures.
        dice: at its end, the mean over pictures.
        keep: the share of pixels that are kept at the end.
        maps: of the first pictures, uint8 (N, T + 1, H, W).
        reward: by which it was trained.
    """

    updates: int
    seconds: float
    earned: float
    dice: float
    keep: float
    maps: NDArray[np.uint8]
    reward: str


@dataclass
class _Shared:
    """What thread and visitor both touch."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    looks: list[Look] = field(default_factory=list)
    state: str = "waiting"  # then "training", "stopped", "finished" or "failed"
    why: str = ""
    asked: float = field(default_factory=time.monotonic)


class Training:
    """One training in a thread of its own; it begins when it is made.

    Args:
        settings: see `Settings`.
        seconds: after which it ends.
        turns: limits how many train at the same time; one that gets no turn waits.
        unseen: seconds after which it ends if nobody asks for its progress.
    """

    def __init__(
        self,
        settings: Settings,
        seconds: float = 60.0,
        turns: threading.Semaphore | None = None,
        unseen: float = UNSEEN,
    ) -> None:
        self._settings, self._seconds, self._unseen = settings, seconds, unseen
        self._turns = turns or threading.Semaphore()
        self._shared = _Shared()
        self._stop = threading.Event()
        self._changed = threading.Event()
        self.agent: PA3C | None = None
        self.thread = threading.Thread(target=self._run, daemon=True, name="lab training")
        self.thread.start()

    @property
    def settings(self) -> Settings:
        """What it trains by now."""
        return self._settings

    def stop(self) -> None:
        """Ends it after the update that goes on."""
        self._stop.set()

    def change(self, **rules: Any) -> None:
        """Goes on with other rules (reward, gamma) from the next update on.

        Raises:
            OptionError: they cannot be used, or are about more than reward and gamma.
        """
        if set(rules) - {"reward", "gamma"}:
            raise OptionError(f"{', '.join(rules)}: only reward and gamma can be changed while an agent trains")
        self._settings = replace(self._settings, rules=replace(self._settings.rules, **rules))
        self._changed.set()

    def reweigh(self, **weights: float) -> None:
        """Goes on with another entropy or object weight from the next update on."""
        self._settings = replace(self._settings, **weights)  # type: ignore[arg-type]
        self._changed.set()

    def progress(self) -> tuple[str, str, list[Look]]:
        """Its state, why it is in that, and what it was like so far; whoever asks keeps it alive."""
        with self._shared.lock:
            self._shared.asked = time.monotonic()
            return self._shared.state, self._shared.why, list(self._shared.looks)

    @property
    def alive(self) -> bool:
        """Whether it waits or trains."""
        return self.thread.is_alive()

    # ---------------------------------------------------------------- in the thread

    def _run(self) -> None:
        while not self._turns.acquire(timeout=0.2):
            if self._ended() is not None:
                self._say("stopped", "It was stopped before its turn came.")
                return
        try:
            self._say("training")
            self._train()
        except Exception as error:  # whatever a reward of the host's own may do
            self._say("failed", str(error))
        finally:
            self._turns.release()

    def _train(self) -> None:
        pictures = load_dataset("phantom", split="all", size=SIDE, count=IMAGES)
        learnt, judged = pictures.subset(range(WATCHED, IMAGES)), pictures.subset(range(WATCHED))
        began = time.monotonic()
        agent = tiny_agent(PixelSegVectorEnv(BATCH, learnt, **self._settings.rules.options), self._settings)
        ended: list[str] = []

        def updated(learner: Any) -> bool:
            why = self._ended() or ("time" if time.monotonic() - began > self._seconds else None)
            if learner.updates % EVERY == 0 or learner.updates < EVERY or why:
                self._look(learner, judged, time.monotonic() - began)
            if why:
                ended.append(why)
            return not why and not self._changed.is_set()

        self._look(agent, judged, 0.0)
        while not ended:
            self._changed.clear()
            agent.env = PixelSegVectorEnv(BATCH, learnt, **self._settings.rules.options)
            agent.config = agent.config.replace(
                gamma=self._settings.rules.gamma,
                entropy_coefficient=self._settings.entropy,
                foreground_weight=self._settings.object_weight,
                final_foreground_weight=self._settings.object_weight,
            )
            agent.learn(TOTAL, callback=updated)
        self.agent = agent
        if ended[0] == "time":
            self._say("finished", f"Its {self._seconds:g} seconds are over.")
        else:
            self._say("stopped", ended[0])

    def _ended(self) -> str | None:
        if self._stop.is_set():
            return "You stopped it."
        with self._shared.lock:
            unseen = time.monotonic() - self._shared.asked > self._unseen
        return "Nobody watched it any more." if unseen else None

    def _look(self, agent: Any, judged: SegmentationDataset, seconds: float) -> None:
        found = look(agent, judged, self._settings.rules, seconds)
        with self._shared.lock:
            self._shared.looks.append(found)

    def _say(self, state: str, why: str = "") -> None:
        with self._shared.lock:
            self._shared.state, self._shared.why = state, why


def tiny_agent(env: PixelSegVectorEnv, settings: Settings) -> PA3C:
    """The smallest PA3C that learns something within a minute; nothing is weighed but as `settings` has it.

    Where actions are amounts to add it is PixelRL, which is PA3C with such actions.
    """
    rules = settings.rules
    return (PixelRL if rules.graded else PA3C)(
        env,
        seed=settings.seed,
        device="cpu",
        width=0.08,
        blocks=2,
        horizons=(rules.horizon,),
        gamma=rules.gamma,
        learning_rate=settings.learning_rate,
        learning_rate_schedule="constant",
        entropy_coefficient=settings.entropy,
        foreground_weight=settings.object_weight,
        final_foreground_weight=settings.object_weight,
        later_background_weight=1.0,
    )


def look(agent: Any, judged: SegmentationDataset, rules: Rules, seconds: float = 0.0) -> Look:
    """Plays one episode on every picture with the agent's likeliest actions.

    Args:
        agent: has `predict`.
        judged: the pictures.
        rules: of the game.
        seconds: to be noted.
    """
    env = PixelSegVectorEnv(len(judged), judged, **rules.options)
    observation, info = env.reset(options={"index": np.arange(len(judged))})
    maps: list[Map] = [info["segmentation"].copy()]
    earned = 0.0
    for t in range(rules.horizon):
        actions, _ = agent.predict(observation)
        observation, reward, _, _, info = env.step(actions)
        info = info.get("final_info", info)
        earned += rules.gamma**t * float(reward.mean())
        maps.append(info["segmentation"].copy())
    stacked = np.stack(maps, axis=1)
    dice, keep = float(info["dice"].mean()), float(stacked[:, -1].mean())
    return Look(getattr(agent, "updates", 0), seconds, earned, dice, keep, stacked, rules.reward)
