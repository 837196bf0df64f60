"""`pixelseg render`: an agent at work, as an animation or a sheet."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from pixelseg_agents.agent import PixelAgent
from pixelseg_agents.cli.arguments import AS_IN_RUN, Split, Switch, Which, parse
from pixelseg_agents.cli.runs import RunError, check_writable, open_run, too_short
from pixelseg_agents.evaluation.figures.episodes import ANIMATIONS, SHEETS, episode_animation, episode_sheet
from pixelseg_agents.evaluation.watching import images_with_objects, watch
from pixelseg_agents.files import check_target
from pixelseg_env import OptionError, SegmentationDataset, check_horizon, did_you_mean

DESCRIPTION = """\
Shows a trained agent at work on some images of its data set: the window that it looks at, what it sees there, with
which probability it keeps every pixel, and what it removes. A .gif or .mp4 plays the steps one after the other, below
the same agent as it was before its training; a .png, .svg or .pdf is a sheet with a row for each step.

Examples:
  pixelseg render runs/first                      writes runs/first/episode.gif
  pixelseg render runs/first --out steps.png --images 2
  pixelseg render runs/first --cases TCGA_DU_7306_19930512 --out steps.png
"""
MOST = 20


@dataclass(frozen=True)
class RenderArguments:
    """Arguments of `pixelseg render`."""

    run: Positional[Annotated[Path, arg(metavar="RUN")]]
    """A run's folder."""
    out: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: RUN/episode.gif)")] = None
    """The file to write, which ends in .gif, .mp4, .png, .svg or .pdf."""
    images: int = 3
    """How many, spread evenly over those of the split that have an object."""
    split: Split = "test"
    """Whose images: of patients held out (test), of validation (val), of training (train), or all."""
    cases: tuple[str, ...] = ()
    """Only images of these cases (patients), as `pixelseg evaluate` names them; by default of all."""
    horizon: Annotated[int | None, arg(metavar="INT", help_behavior_hint=AS_IN_RUN)] = None
    """Steps of an episode."""
    untrained: Switch = True
    """Show the same agent before its training in the row above; sheets do not have it."""
    checkpoint: Which = "last"
    """Which of the run's checkpoints: the last, or the best on validation patients."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda or cuda:N."""
    overwrite: Switch = False
    """Replace a file that exists."""


def main(words: list[str]) -> int:
    """Runs the command; returns the exit code."""
    arguments = parse(RenderArguments, words, "render", DESCRIPTION)
    if not 1 <= arguments.images <= MOST:
        raise OptionError(f"--images {arguments.images}: expected 1 to {MOST}")
    run = open_run(arguments.run)
    task = run.task
    if task is None:
        raise RunError(f"{arguments.run}: a checkpoint does not tell its data; expected a run's folder")
    out = arguments.out or run.folder / "episode.gif"
    check_target(out, (*ANIMATIONS, *SHEETS), arguments.overwrite)
    check_writable(out.parent, "--out")
    agent = run.load_agent(device=arguments.device, which=arguments.checkpoint)
    horizon = check_horizon(task.horizon if arguments.horizon is None else arguments.horizon)
    if warning := too_short(agent, horizon):
        print(f"pixelseg: warning: {warning}", file=sys.stderr)
    dataset = _of_cases(task.load(arguments.split)[arguments.split], arguments)
    chosen = images_with_objects(dataset, arguments.images)
    env = task.environment(dataset, len(chosen))
    trained = watch(agent, env, chosen, horizon)
    if out.suffix.lower() in SHEETS:
        episode_sheet(trained, out)
    else:
        rows = {"untrained": watch(_fresh(agent, env), env, chosen, horizon)} if _beside(arguments, agent) else {}
        episode_animation(rows | {"trained": trained}, out)
    print(f"agent     {run.file(arguments.checkpoint)}, update {agent.updates}")
    print(f"written   {out}: {len(chosen)} image(s), {horizon} step(s) each")
    for episode in trained:
        print(f"          {episode.title}: Dice {', '.join(f'{step.dice:.3f}' for step in episode.steps)}")
    return 0


def _of_cases(dataset: SegmentationDataset, arguments: RenderArguments) -> SegmentationDataset:
    """The images of the cases that were asked for."""
    for name in arguments.cases:
        if name not in dataset.cases:
            known = sorted(set(dataset.cases))
            raise OptionError(
                f"--cases {name}: expected cases of --split {arguments.split}, which has {len(known)}, such as "
                f"{', '.join(known[:3])}.{did_you_mean(name, known)}"
            )
    asked = set(arguments.cases) or set(dataset.cases)
    return dataset.subset([k for k, case in enumerate(dataset.cases) if case in asked])


def _beside(arguments: RenderArguments, agent: Any) -> bool:
    return arguments.untrained and isinstance(agent, PixelAgent)


def _fresh(agent: PixelAgent, env: Any) -> PixelAgent:
    """The agent as it was before its training."""
    return type(agent)(env, agent.config, seed=agent.seed, device=agent.device)
