"""`pixelseg train`: one run from the first update to the evaluation, in one session or several."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import numpy as np
from tyro.conf import OmitArgPrefixes, arg

from pixelseg_agents.agent import PixelAgent
from pixelseg_agents.checkpoint import BEST, CHECKPOINT
from pixelseg_agents.cli.arguments import Split
from pixelseg_agents.cli.card import write_card
from pixelseg_agents.cli.coarse import SET, check_coarse, describe
from pixelseg_agents.cli.options import parse_pairs
from pixelseg_agents.cli.runs import (
    Run,
    RunError,
    check_free,
    has_begun,
    held,
    open_run,
    too_short,
    too_small,
    write_config,
)
from pixelseg_agents.cli.session import Session
from pixelseg_agents.cli.task import TaskArguments, described, task_from_json
from pixelseg_agents.cli.volumes import volume_report
from pixelseg_agents.evaluation.familiar import LOOKS, looks_of
from pixelseg_agents.evaluation.figures import learning_curve
from pixelseg_agents.evaluation.report import evaluate_all, summary_text, volumes_text, write_report
from pixelseg_agents.evaluation.results import EvaluationResult
from pixelseg_agents.learning.device import resolve_device
from pixelseg_agents.learning.errors import TrainingError
from pixelseg_agents.learning.precision import Mode
from pixelseg_agents.learning.room import out_of_memory
from pixelseg_agents.networks import parameter_count
from pixelseg_agents.provenance import now, provenance
from pixelseg_agents.registry import agent_class, preset_note, registered_agents, title_of
from pixelseg_agents.team import Team, joined
from pixelseg_env import DataError, OptionError, PixelSegVectorEnv, SegmentationDataset
from pixelseg_env.datasets import own_options

ConfigT = TypeVar("ConfigT")
RECOMPUTE = "recompute"  # the hyperparameter that a run may go on with another value of: it changes round-off alone
AGENT = f"Which agent learns: {', '.join(registered_agents())}, or module:name of your own."


@dataclass(frozen=True, kw_only=True)
class TrainArguments(Generic[ConfigT]):
    """Arguments of `pixelseg train`."""

    agent: Annotated[str, arg(help=AGENT)] = "pa3c"
    preset: Literal["default", "whole", "closer", "published", "published-alive", "published-intensity"] = "default"
    """Where the agent's hyperparameters start from: those of one that sees every image whole (whole), of one that looks
    closer in its second and last step (closer, which sets --size 128, --horizon 2, --observation stacked and
    --observe-time too), the publication's, which saturate, those with a normalisation, under which they learn
    (published-alive), also in the reading whose map is the image (published-intensity, which sets --start image and
    --reward intensity_error); default: closer for pa3c, whole for the others. The flags below change single ones."""
    updates: int = 2000
    """Training length: one update is one batch of episodes (PA3C: one gradient step; AC and the DQNs: one per step)."""
    batch: int = 8
    """Images per update."""
    seed: int = 0
    """Of parameters, drawn images and actions; the same seed gives the same run (bit for bit on a CPU)."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda or cuda:N."""
    out: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="(default: runs/AGENT-DATASET-sSEED)")] = None
    """The run's folder; it must not hold a run already."""
    resume: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="(default: start anew)")] = None
    """Go on with a run that was stopped, with its own arguments; --updates may be raised."""
    eval_every: int = 200
    """Updates between evaluations on the validation patients (eval/dice in the log); 0: never."""
    eval_split: Split = "test"
    """Which patients the finished agent is evaluated on."""
    patience: int = 0
    """Stop after so many evaluations on the validation patients without a better Dice; 0: never."""
    save_every: float = 60.0
    """Seconds between checkpoints."""
    log_interval: int = 10
    """Updates per row of progress.csv."""
    log: Literal["bar", "stdout", "none"] = "bar"
    """What the terminal shows: a progress bar, Stable-Baselines3's tables, or nothing."""
    tensorboard: Literal["auto", "on", "off"] = "auto"
    """Also write RUN/tensorboard: where TensorBoard is installed (auto), always (pip install tensorboard), or never."""
    wandb: Annotated[str | None, arg(metavar="PROJECT", help_behavior_hint="(default: off)")] = None
    """Also log to this project of Weights & Biases (pip install wandb)."""
    config: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: none)")] = None
    """Flags from a YAML or JSON file, or from a run's config.json; what is typed goes before."""
    task: OmitArgPrefixes[TaskArguments] = field(default_factory=TaskArguments)
    hyper: OmitArgPrefixes[ConfigT]
    """Hyperparameters of the agent."""

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.out or Path("runs") / f"{self.agent}-{self.task.dataset}-s{self.seed}"

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        coarse = None if self.task.coarse is None else str(self.task.coarse)
        task = dataclasses.asdict(self.task) | {"data": [str(path) for path in self.task.data], "coarse": coarse}
        hyper = dataclasses.asdict(self.hyper)  # type: ignore[call-overload]
        for name in ("resume", "config"):  # of one call only
            del values[name]
        return values | {"hyper": hyper, "task": task, "out": str(self.folder)}

    @classmethod
    def from_json(cls, values: dict[str, Any], config: ConfigT) -> TrainArguments[ConfigT]:
        """The inverse of `to_json`, with the hyperparameters given apart."""
        return cls(**(values | {"task": task_from_json(values["task"]), "hyper": config, "out": Path(values["out"])}))


def train(arguments: TrainArguments[Any], command: str = "") -> int:
    """Trains, evaluates and fills the run folder.

    Args:
        arguments: with `resume` set, those of the run (see `cli.train_arguments`).
        command: the command line, for `config.json`.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that stopped the training.
    """
    _check(arguments)
    with joined() as team:
        return _train_together(arguments, command, team)


def _train_together(arguments: TrainArguments[Any], command: str, team: Team) -> int:
    """What one of the processes does that train together: the first one alone writes into the run's folder."""
    run = open_run(arguments.resume) if arguments.resume else None
    folder = arguments.folder if run is None else run.folder
    if run is None and team.first:
        check_free(folder)
    validation = {"val"} if arguments.eval_every else set()
    sets = arguments.task.load(*({"train", arguments.eval_split} | validation))
    check_coarse(arguments.task, sets["train"])
    if run is None:
        arguments = _with_white(arguments, sets["train"].white)
    env = arguments.task.environment(sets["train"], arguments.batch, str(resolve_device(arguments.device)))
    with held(folder) if team.first else contextlib.nullcontext():
        if run is None and team.first:
            check_free(folder)  # again: another process may have trained there meanwhile
        (begun,) = team.largest(int(run is not None and team.first and has_begun(folder)))
        if run is not None and begun:
            agent = _continue(arguments, env, run, team)
        else:
            agent = _start(arguments, folder, env, command, team)
        return _train(agent, arguments, folder, sets, env, team)


def _train(
    agent: Any,
    arguments: TrainArguments[Any],
    folder: Path,
    sets: dict[str, SegmentationDataset],
    env: PixelSegVectorEnv,
    team: Team,
) -> int:
    """Trains and evaluates an agent whose run's folder is there; returns the exit code."""
    if arguments.log != "none" and team.first:
        print(
            f"{title_of(agent)}: {parameter_count(agent.network):,} parameters on {agent.device}; "
            f"{len(sets['train'])} images of {len(set(sets['train'].cases))} patients to learn from"
        )
        print(_in_force(agent, env))
        if team.size > 1:
            print(f"{team.size} processes of {arguments.batch} images each: {team.size * arguments.batch} an update")
    warnings = (
        preset_note(arguments.preset, arguments.hyper),
        too_short(agent, arguments.task.horizon),
        too_small(agent, sets["train"].image_shape[1:]),
    )
    for warning in filter(None, warnings if team.first else ()):
        print(f"pixelseg: warning: {warning}", file=sys.stderr)
    judge = None
    if arguments.eval_every:
        judge = arguments.task.environment(sets["val"], min(arguments.batch, len(sets["val"])))
    session = Session(agent, arguments, folder, judge, team)
    if team.first:  # now, so that a run that is killed, or fails, has a card as well
        _describe(agent, folder, session)
    exit_code = session.run()
    if not team.first:  # its part of the scores is all that is left to do
        if not exit_code:
            _results(agent, arguments, sets[arguments.eval_split], team)
        return exit_code
    if (folder / "progress.csv").stat().st_size:
        with contextlib.suppress(DataError):  # no column that it draws, as long as AMP-DRL pre-trains, say
            learning_curve(folder / "progress.csv", folder / "learning_curve.png")
    if exit_code:
        _describe(agent, folder, session)
        print(
            f"Stopped after {agent.updates} of {arguments.updates} updates; the checkpoint is saved.\n"
            f"To go on: pixelseg train --resume {folder}"
        )
        return exit_code
    if session.stopped_early:
        print(
            f"Stopped early, after {agent.updates} of {arguments.updates} updates: {arguments.patience} evaluations "
            f"without a better Dice than {session.best['dice']:.3f} on the validation patients"
        )
    try:
        _evaluate(agent, arguments, folder, sets[arguments.eval_split], session, team)
    except OSError as error:
        raise RunError(
            f"{error.filename or folder}: {error.strerror or error}. The training is done and saved; `pixelseg train "
            f"--resume {folder}` evaluates it"
        ) from error
    return 0


def _check(arguments: TrainArguments[Any]) -> None:
    least = {"updates": 1, "batch": 1, "seed": 0, "eval_every": 0, "patience": 0, "save_every": 0, "log_interval": 1}
    for name, limit in least.items():
        value = getattr(arguments, name)
        if value < limit:
            raise OptionError(f"--{name.replace('_', '-')} {value}: expected {limit} or more")
    if arguments.patience and not arguments.eval_every:
        raise OptionError("--patience needs evaluations on validation patients: give --eval-every")
    needs = {"tensorboard": arguments.tensorboard == "on", "wandb": arguments.wandb is not None}
    for package, needed in needs.items():
        if needed and not _installed(package):
            raise OptionError(f"--{package}: {package} is not installed; pip install {package}, or leave it out")


def _installed(package: str) -> bool:
    if package in sys.modules:
        return sys.modules[package] is not None
    return importlib.util.find_spec(package) is not None


def _start_weights(agent: Any) -> Any:
    """The foreground weight that training starts with, one per label."""
    weight = getattr(agent, "start_weight", None)
    return weight() if weight is not None else None


def _in_force(agent: Any, env: PixelSegVectorEnv) -> str:
    """What is done to the rewards before the agent learns from them."""
    config, weights = agent.config, _start_weights(agent)
    if weights is None:
        return f"reward {env.reward}"
    shown = ", ".join(f"{weight:.3g}" for weight in weights)
    falls = f", falling to {config.final_foreground_weight:g}" * any(
        w != config.final_foreground_weight for w in weights
    )
    idle = "later_background_weight" in getattr(agent, "idle", ())
    later = None if idle else getattr(config, "later_background_weight", None)
    after = "" if later in (None, 1) else f"; of background pixels after the first step: {later:g}"
    mode = getattr(agent, "mode", None)
    chosen = getattr(config, "precision", None) == "auto" or mode != Mode()  # what was measured is told, whatever it is
    passes = f"; passes in {mode}" if chosen and mode is not None else ""
    return f"reward {env.reward}; weight of object pixels: {shown}{falls}{after}{passes}"


def _start(arguments: TrainArguments[Any], folder: Path, env: PixelSegVectorEnv, command: str, team: Team) -> Any:
    agent = agent_class(arguments.agent)(env, arguments.hyper, seed=arguments.seed, device=arguments.device)
    _join(agent, team)
    mode = agent.settle_mode() if hasattr(agent, "settle_mode") else None
    # A reward or network of the user's own may fail; better now than with a run's folder half made. (Updates seed their
    # episodes.)
    observation, _ = env.reset(seed=arguments.seed)
    try:
        agent.predict(observation)
    except OptionError as error:
        if not out_of_memory(error.__cause__ or error) or not isinstance(agent, PixelAgent):
            raise
        raise TrainingError(f"out of memory: {agent.no_room()}") from error
    env.step(np.ones(env.action_space.shape, np.int8))
    if not team.first:
        return agent
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "command": command,
        "working_folder": str(Path.cwd()),  # what relative paths among the arguments are relative to
        "arguments": arguments.to_json(),
        SET: describe(env.dataset),
        LOOKS: looks_of(env.dataset, replaced=getattr(agent.config, "missing_sequences", 0) > 0),
        "device": str(agent.device),
        "processes": team.size,
        "in_force": {k: v for k, v in agent.config.to_dict().items() if k not in getattr(agent, "idle", ())}
        | {"start_foreground_weight": _start_weights(agent), "passes": str(mode or Mode())},
        **provenance(),
    }
    write_config(folder, config)  # first, so that a run that is killed here can be resumed
    agent.save(folder / CHECKPOINT)
    return agent


def _with_white(arguments: TrainArguments[Any], white: float | None) -> TrainArguments[Any]:
    """The arguments with the grey level of 16-bit files that became 1, so that the run reads others alike."""
    task = arguments.task
    takes = own_options(task.dataset) or ()
    if "white" not in takes or not white or white <= 255 or "white" in parse_pairs(task.dataset_option):
        return arguments
    pairs = (*task.dataset_option, f"white={white:g}")
    return dataclasses.replace(arguments, task=dataclasses.replace(task, dataset_option=pairs))


def _continue(arguments: TrainArguments[Any], env: PixelSegVectorEnv, run: Run, team: Team) -> Any:
    assert run.config is not None
    found, before = describe(env.dataset), run.config.get(SET)
    if found != before:
        raise DataError(f"{run.folder}: the training set has changed since the run began: {before} then, {found} now")
    agent = run.load_agent(env=env, device=arguments.device)
    if agent.updates >= arguments.updates and (run.folder / "evaluation.json").exists():
        raise RunError(
            f"{run.folder}: has done its {agent.updates} updates; to train longer, give a larger --updates "
            "(learning rate and horizons are then planned anew over all of them)"
        )
    told = {}
    if hasattr(arguments.hyper, RECOMPUTE):
        chosen = {RECOMPUTE: getattr(arguments.hyper, RECOMPUTE)}
        agent.config = agent.config.replace(**chosen)
        told = {"in_force": force | chosen} if (force := run.config.get("in_force")) else {}
    _join(agent, team)  # when all have seen the folder as it is
    if not team.first:
        return agent
    (run.folder / "evaluation.json").unlink(missing_ok=True)  # the next marks the end of this session
    resumed = [*run.config.get("resumed", []), {"updates": agent.updates, "time": now(), "processes": team.size}]
    write_config(run.folder, run.config | told | {"arguments": arguments.to_json(), "resumed": resumed})
    return agent


def _join(agent: Any, team: Team) -> None:
    """Makes an agent one of the processes that train together; a plug-in may not be able to.

    Raises:
        OptionError: it is not.
    """
    if hasattr(agent, "join"):
        agent.join(team)
    elif team.size > 1:
        raise OptionError(f"{title_of(agent)}: cannot train in {team.size} processes, for it has no method `join`")


def _results(
    agent: Any, arguments: TrainArguments[Any], dataset: SegmentationDataset, team: Team
) -> dict[str, EvaluationResult]:
    env = arguments.task.environment(dataset, min(arguments.batch, len(dataset)))
    return evaluate_all(agent, title_of(agent), env, team=team)


def _describe(agent: Any, folder: Path, session: Session, report: dict[str, Any] | None = None) -> None:
    """Writes the run's card; without a report the training has not finished."""
    write_card(folder, open_run(folder).config or {}, title_of(agent), agent.updates, session.best, report)


def _evaluate(
    agent: Any, arguments: TrainArguments[Any], folder: Path, dataset: SegmentationDataset, session: Session, team: Team
) -> None:
    results = _results(agent, arguments, dataset, team)
    about = {"split": arguments.eval_split, "updates": agent.updates, "checkpoint": "last"}
    volumes, said = volume_report(agent, arguments.task, dataset, arguments.eval_split, results, arguments.batch)
    about |= described(arguments.task, dataset) | said
    content = write_report(folder, results, dataset, about, volumes, getattr(agent, "windows", None))
    _describe(agent, folder, session, content)
    if volumes:
        print(volumes_text(volumes))
        print()
    for what, text in said.items():
        print(f"{what.capitalize()}: {text}.\n")
    print(summary_text(results))
    if session.best and session.best["updates"] != agent.updates:
        print(
            f"On the validation patients the best was update {session.best['updates']}, Dice "
            f"{session.best['dice']:.3f}, kept as {BEST}; these scores, evaluate and predict use the last "
            "(--checkpoint best for the other)."
        )
    if warning := too_short(agent, arguments.task.horizon):
        print(f"Warning: {warning}")
    print(f"Run folder: {folder}")
