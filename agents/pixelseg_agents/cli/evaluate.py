"""`pixelseg evaluate`: scores a trained agent on one split of a data set."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pixelseg_agents.cli.arguments import EvaluateArguments, TaskArguments
from pixelseg_agents.cli.options import RUNS_OWN
from pixelseg_agents.cli.runs import CONFIG, Run, open_run, run_size
from pixelseg_agents.evaluation.report import evaluate_all, patients_text, summary_text, write_report
from pixelseg_agents.files import write_atomically
from pixelseg_agents.registry import load_agent
from pixelseg_env import OptionError, check_horizon


def assess(arguments: EvaluateArguments) -> int:
    """Evaluates, prints the tables and writes the report; returns the exit code."""
    if arguments.batch < 1:
        raise OptionError(f"--batch {arguments.batch}: expected 1 or more")
    run = open_run(arguments.run)
    agent = load_agent(run.checkpoint, device=arguments.device)
    task = _task(arguments, run, agent)
    dataset = task.load(arguments.split)[arguments.split]
    channels = agent.channels - (agent.observation == "stacked")
    if dataset.image_shape[0] != channels:
        raise OptionError(
            f"{run.checkpoint}: the agent was trained on {channels} channel(s), the data set {task.dataset!r} has "
            f"{dataset.image_shape[0]}; give the same --dataset and --dataset-option channels=..."
        )
    env = task.environment(dataset, min(arguments.batch, len(dataset)))
    results = evaluate_all(agent, agent.name, env)
    trained_on = run.task.dataset if run.task else task.dataset
    name = arguments.split if task.dataset == trained_on else f"{task.dataset}-{arguments.split}"
    if run.task is not None and task.horizon != run.task.horizon:
        name += f"-horizon-{task.horizon}"
    folder = arguments.out or run.folder / f"evaluation-{name}"
    about: dict[str, Any] = {"dataset": task.dataset, "split": arguments.split, "updates": agent.updates}
    content = write_report(folder, results, dataset, about)
    if arguments.json == "-":
        print(json.dumps(content, indent=1))
        return 0
    if arguments.json is not None:
        write_atomically(Path(arguments.json), json.dumps(content, indent=1) + "\n")
    print(summary_text(results))
    print()
    print(patients_text(results))
    print(f"Written to {folder}")
    return 0


def _task(arguments: EvaluateArguments, run: Run, agent: Any) -> TaskArguments:
    """The run's data and rules, with what the command line changes."""
    task = run.task
    if task is None:
        if arguments.dataset is None or arguments.size == RUNS_OWN:
            raise OptionError(f"{run.checkpoint}: no {CONFIG} beside it tells the data; give --dataset and --size")
        task = TaskArguments(dataset=arguments.dataset)
    elif arguments.dataset not in (None, task.dataset):
        task = dataclasses.replace(task, dataset=arguments.dataset, data=(), dataset_option=())
    given = {
        name: value
        for name in ("data", "dataset_option", "split_by", "split_seed", "horizon")
        if (value := getattr(arguments, name)) not in (None, ())
    }
    check_horizon(given.get("horizon", task.horizon))
    size = run_size(run, arguments.size)
    return dataclasses.replace(task, **given, size=size, transition=agent.transition, observation=agent.observation)
