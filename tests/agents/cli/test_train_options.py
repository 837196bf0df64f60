"""What people expect of a training: best and last, patience, config files, a model card, other loggers, comparison."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pixelseg_agents import PA3C, Closer, PA3CConfig, load_agent, registry
from pixelseg_agents.cli import main
from pixelseg_agents.cli.config_file import with_config
from pixelseg_agents.cli.train import train_arguments
from pixelseg_agents.learning.looking import WholeImage
from pixelseg_agents.registry import preset_config, preset_note
from tests.helpers.cli import PHANTOM, rows_of, train_tiny


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of one task."""
    root = tmp_path_factory.mktemp("runs")
    for seed in range(2):
        assert train_tiny(root / f"s{seed}", "--seed", str(seed), "--eval-every", "4", updates=24) == 0
    return [root / "s0", root / "s1"]


def test_the_best_on_validation_patients_is_kept(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    scores = {int(row["time/updates"]): float(row["eval/dice"]) for row in rows_of(runs[0]) if row["eval/dice"]}
    best = json.loads((runs[0] / "validation.json").read_text())["best"]
    assert best["dice"] == pytest.approx(max(scores.values()))
    assert load_agent(runs[0] / "best.safetensors").updates == best["updates"] == max(scores, key=lambda k: scores[k])
    assert load_agent(runs[0] / "checkpoint.safetensors").updates == 24
    for which, updates in (("best", best["updates"]), ("last", 24)):
        assert main(["evaluate", str(runs[0]), "--split", "val", "--checkpoint", which]) == 0
        said = capsys.readouterr().out
        assert f"update {int(updates)}. Written to" in said
        assert said.rindex("after step 1") > said.rindex("phantom_")  # the summary comes last
    folder = runs[0] / "evaluation-val-best"
    judged = json.loads((folder / "evaluation.json").read_text())["summary"]["metrics"]["DICE"]["mean"]
    assert judged == pytest.approx(best["dice"], abs=1e-6)


def test_patience_ends_a_training_that_gains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--eval-every", "4", "--patience", "2", "--learning-rate", "1e-30"]
    assert train_tiny(tmp_path / "run", *flags, updates=80) == 0
    agent = load_agent(tmp_path / "run/checkpoint.safetensors")
    assert agent.updates == 12  # the first evaluation is the best, two more gain nothing
    assert "Stopped early, after 12 of 80" in capsys.readouterr().out
    assert (tmp_path / "run/evaluation.json").exists()
    assert train_tiny(tmp_path / "wrong", "--patience", "2", "--eval-every", "0", updates=2) == 2
    assert "--eval-every" in capsys.readouterr().err


def test_the_folder_is_a_model_card(runs: list[Path]) -> None:
    card = (runs[0] / "README.md").read_text()
    scores = json.loads((runs[0] / "evaluation.json").read_text())["summary"]["metrics"]["DICE"]
    for said in ("# PA3C on phantom", "seed 0", f"| DICE | {scores['mean']:.3f} | {scores['patient_mean']:.3f} |",
                 "`learning_rate`: 0.001", "reward `squared_error`", "## Limits", "best.safetensors",
                 "- Data set `phantom` (generated, or the folder in PIXELSEG_DATA), options: count=12; images at 16",
                 "- Trained on 8 images of 8 patients; ",
                 "seed 0; judged on 3 images of 3 patients (`test`), none of them trained on."):  # fmt: skip
        assert said in card, said
    assert "Not finished" not in card


@pytest.mark.parametrize("kind", ["yaml", "json", "run"])
def test_flags_come_from_a_file_and_typed_ones_go_before(tmp_path: Path, kind: str, runs: list[Path]) -> None:
    flags = {"updates": 24, "batch": 2, "size": [16, 16], "width": 0.03, "horizons": [1, 2], "horizon": 2, "sam": True,
             "dataset": "phantom", "dataset-option": ["count=12"], "foreground_weight": None}  # fmt: skip
    path = tmp_path / f"flags.{kind}"
    if kind == "run":
        path = runs[0] / "config.json"
    else:
        path.write_text(json.dumps(flags))  # JSON is YAML
    found = train_arguments(["--config", str(path), "--batch", "3", "--dataset-option", "count=20", "--no-sam"])
    assert (found.updates, found.batch, found.hyper.width, found.hyper.horizons) == (24, 3, 0.03, (1, 2))
    assert found.task.size in (16, (16, 16))
    assert found.task.dataset_option == ("count=20",)
    assert not found.hyper.sam
    assert found.hyper.foreground_weight is None
    assert found.out is None
    plain = train_arguments(["--width", "0.03", "--horizons", "1", "2"])
    again = train_arguments(with_config(["--config", str(path)]))
    assert again.hyper.learning_rate == plain.hyper.learning_rate


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "{", "expected a YAML or JSON file"),
        ("a.yaml", "a: [", "expected a YAML or JSON file"),
        ("a.json", "[1]", "expected flags and their values"),
        ("a.json", '{"data": [{}]}', "expected a number, a text"),
        ("a.json", '{"updats": 5}', "Did you mean 'updates'"),
        ("gone.json", None, "expected a YAML or JSON file"),
    ],
)
def test_a_wrong_file_of_flags_is_explained(
    tmp_path: Path, name: str, content: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main(["train", "--config", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert name in error


def test_a_preset_beside_a_run_s_file_would_change_nothing(
    tmp_path: Path, runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--preset", "published", "--out", str(tmp_path / "run")]
    assert main(["train", "--config", str(runs[0] / "config.json"), *words]) == 2
    assert "leave one of the two out" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine.json").write_text('{"width": 0.5}')
    found = train_arguments(["--config", str(tmp_path / "mine.json"), *words])
    assert (found.preset, found.hyper.width, found.hyper.norm) == ("published", 0.5, "none")


def test_runs_are_compared(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "curves.png"
    assert main(["compare", *map(str, runs), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    for run in runs:
        mean = json.loads((run / "evaluation.json").read_text())["summary"]["metrics"]["DICE"]["mean"]
        assert any(line.startswith(f"| {run.name}") and f"{mean:.3f}" in line for line in said.splitlines())
    assert out.read_bytes().startswith(b"\x89PNG")
    for words, reason in (
        ([str(runs[0])], "two or more"),
        ([str(runs[0]), str(runs[0])], "twice"),
        ([str(runs[0]), str(tmp_path)], "not a run folder"),
        ([*map(str, runs), "-o", str(out)], "exists"),
    ):
        assert main(["compare", *words]) == 2
        assert reason in capsys.readouterr().err


def test_groups_in_a_config_file_of_ones_own_keep_its_out(tmp_path: Path) -> None:
    """A run's config.json has groups too, but its folder is the run's own."""
    path = tmp_path / "mine.yaml"
    path.write_text("out: elsewhere\nupdates: 7\ntask:\n  size: 24\nhyper:\n  width: 0.5\n")
    found = train_arguments(["--config", str(path)])
    assert (found.out, found.updates, found.task.size, found.hyper.width) == (Path("elsewhere"), 7, 24, 0.5)


SHORT = [*PHANTOM, "--width", "0.03", "--updates", "2", "--batch", "2", "--log", "none", "--device", "cpu"]


def test_pa3c_looks_closer_unless_told_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["train", *SHORT, "--size", "56", "--out", str(run)]) == 0
    said = capsys.readouterr()
    agent = PA3C.load(run / "checkpoint.safetensors")
    assert (agent.look, agent.config.horizons) == (Closer(), (1, 2))
    told = re.findall(r"^\| after step (\d+) *\| (\S+) ± \S+ \| (\S+) ± ", said.out, re.M)
    summary = json.loads((run / "evaluation.json").read_text())["summary"]
    for column, curve in enumerate(("dice_by_step", "biou_by_step"), start=1):
        assert [float(row[column]) for row in told] == pytest.approx(summary[curve], abs=6e-4)
    assert [row[0] for row in told] == ["1", "2"]
    assert "warning" not in said.err
    assert main(["train", *SHORT, "--size", "48", "--out", str(tmp_path / "small")]) == 0
    assert "48x48 are no larger than the smallest window" in capsys.readouterr().err
    for look, warned in (("whole", False), ("closer(smallest=16)", True)):
        once = ["--agent", "supervised", "--look", look, "--horizon", "3", "--size", "24"]
        assert main(["train", *SHORT, *once, "--out", str(tmp_path / f"once-{warned}")]) == 0
        assert ("learns from the first look alone" in capsys.readouterr().err) == warned
    assert main(["train", *SHORT, "--size", "48", "--preset", "whole", "--out", str(tmp_path / "whole")]) == 0
    said = capsys.readouterr()
    assert PA3C.load(tmp_path / "whole/checkpoint.safetensors").look == WholeImage()
    assert re.findall(r"after step (\d+)", said.out) == ["1", "10"]
    assert "smallest window" not in said.err


@pytest.mark.parametrize(
    ("words", "size", "horizon", "observation", "look", "horizons"),
    [
        ([], 128, 2, "stacked", "closer", (1, 2)),
        (["--preset", "closer", "--size", "96"], 96, 2, "stacked", "closer", (1, 2)),
        (["--agent", "pixelseg_agents:PA3C"], 128, 2, "stacked", "closer", (1, 2)),
        (["--horizon", "10"], 128, 10, "stacked", "closer", (1, 2, 10)),
        (["--horizon=1"], 128, 1, "stacked", "closer", (1,)),
        (["--horizons", "1", "2", "3"], 128, 3, "stacked", "closer", (1, 2, 3)),
        (["--horizon", "4", "--horizons", "2", "4"], 128, 4, "stacked", "closer", (2, 4)),
        (["--observation", "masked", "--transition", "restorable"], 128, 2, "masked", "closer", (1, 2)),
        (["--size", "none", "--look", "closer(side=32)"], None, 2, "stacked", "closer(side=32)", (1, 2)),
        (["--preset", "whole"], 64, 10, "masked", "whole", ()),
        (["--preset", "published"], 64, 10, "masked", "whole", (10,)),
        (["--agent", "ac"], 64, 10, "masked", "whole", ()),
        (["--agent", "amp-drl"], 64, 10, "masked", "whole", ()),
        (["--agent", "ac", "--preset", "closer", "--horizon", "3"], 128, 3, "stacked", "closer", (1, 2, 3)),
    ],
)
def test_what_is_typed_goes_before_a_preset_which_fits_the_rest_to_it(
    words: list[str], size: int | None, horizon: int, observation: str, look: str, horizons: tuple[int, ...]
) -> None:
    found = train_arguments(words)
    task, hyper = found.task, found.hyper
    assert (task.size, task.horizon, task.observation) == (size, horizon, observation)
    assert (hyper.look, hyper.horizons) == (look, horizons)
    assert task.observe_time == (found.preset == "closer")
    assert sum(hyper.horizon_shares) == pytest.approx(float(len(hyper.horizon_shares) > 0))


def test_an_agent_that_looks_closer_practises_later_looks_most_of_the_time() -> None:
    """As it was when the figures of *Looking closer* were measured."""
    for horizon, shares in ((1, ()), (2, (0.4, 0.6)), (10, (0.4, 0.3, 0.3))):
        assert preset_config("pa3c", "closer", horizon).horizon_shares == pytest.approx(shares)


def test_older_runs_go_on_and_are_repeated_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They noted `default`, which then was `whole`; and what a preset has become since says nothing about a run."""
    assert train_tiny(tmp_path / "old", "--horizon", "10", updates=2) == 0
    path = tmp_path / "old" / "config.json"
    config = json.loads(path.read_text())
    for name, value in (("horizons", []), ("horizon_shares", []), ("start_bias", None)):  # as by default
        config["arguments"]["hyper"][name] = value
    config["arguments"]["preset"] = "default"
    del config["arguments"]["hyper"]["look"]
    path.write_text(json.dumps(config))
    again = train_arguments(["--config", str(path)])
    assert again.hyper == PA3CConfig(width=0.03)
    assert (again.task.size, again.task.horizon, again.task.observation, again.task.observe_time) == (
        *(16, 10),
        *("masked", False),
    )
    assert main(["train", "--resume", str(tmp_path / "old"), "--updates", "3"]) == 0
    assert PA3C.load(tmp_path / "old/checkpoint.safetensors").look == WholeImage()
    new = train_arguments(["--width", "0.03", "--recompute", "True"])
    path.write_text(json.dumps({"arguments": new.to_json()}))
    monkeypatch.setitem(registry.CLOSER, "network", "unet")
    assert train_arguments([]).hyper.network == "unet", "one place tells what the preset is"
    assert train_arguments(["--config", str(path)]) == new


def test_the_preset_that_looks_closer_sets_the_rules_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--preset", "closer", *PHANTOM, "--look", "closer(side=16, smallest=8)"]
    words += ["--size", "24", "--width", "0.05", "--updates", "2", "--batch", "2", "--log", "none", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    stored = json.loads((tmp_path / "run/config.json").read_text())["arguments"]
    task, hyper = stored["task"], stored["hyper"]
    assert (task["horizon"], task["observation"], task["observe_time"]) == (2, "stacked", True)
    assert hyper["horizons"] == [1, 2]
    assert hyper["look"] == "closer(side=16, smallest=8)"
    assert main(["train", "--resume", str(tmp_path / "run"), "--updates", "3"]) == 0
    typed = [*words, *["--observation", "masked", "--horizon", "3", "--horizons", "1", "2", "3", "--no-observe-time"]]
    assert main([*typed, "--out", str(tmp_path / "other")]) == 0
    other = json.loads((tmp_path / "other/config.json").read_text())["arguments"]
    assert (other["task"]["horizon"], other["task"]["observation"], other["task"]["observe_time"]) == (
        3,
        "masked",
        False,
    )
    assert other["hyper"]["horizons"] == [1, 2, 3]
    capsys.readouterr()
    assert main([*words, "--agent", "amp-drl", "--out", str(tmp_path / "third")]) == 2
    assert "preset='closer': agent 'amp-drl' takes no look" in capsys.readouterr().err
    assert main([*words, "--agent", "pixelrl", "--out", str(tmp_path / "fourth")]) == 0
    fourth = json.loads((tmp_path / "fourth/config.json").read_text())["arguments"]
    assert fourth["task"]["transition"] == "additive", "the only one that its actions are made for"
    assert train_arguments(["--preset", "closer"]).task.transition == "absorbing"


def test_the_published_preset_says_that_it_saturates_and_what_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", *PHANTOM, "--size", "16", "--width", "0.05", "--updates", "1", "--batch", "2", "--log", "none"]
    for number, (preset, told) in enumerate(
        (("published", True), ("published-alive", False), ("published-intensity", False))
    ):
        assert main([*words, "--preset", preset, "--out", str(tmp_path / f"{number}")]) == 0
        said = capsys.readouterr().err
        assert ("--preset published saturates" in said) is told
        assert ("--preset published-alive" in said) is told
    alive, stated = (train_arguments(["--preset", name]).hyper for name in ("published-alive", "published"))
    assert alive == stated.replace(norm="group") != stated
    task = json.loads((tmp_path / "2/config.json").read_text())["arguments"]["task"]
    assert (task["start"], task["reward"]) == ("image", "intensity_error")
    assert train_arguments(["--preset", "published-intensity"]).hyper == alive
    assert preset_note("published", stated) != ""
    assert preset_note("published", alive) == preset_note("default", stated) == ""


@pytest.mark.parametrize(("name", "limit"), [("vanilla", "0.0"), ("natural", "4.0")])
def test_help_shows_what_a_policy_gradient_changes(name: str, limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--policy-gradient", name, "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert re.search(rf"--logit-limit .*?\(default: {limit}\)", said)
    given = train_arguments(["--policy-gradient", name, "--logit-limit", "4.0"]).hyper
    assert (given.policy_gradient, given.logit_limit, given.exploration) == (name, 4.0, None)
