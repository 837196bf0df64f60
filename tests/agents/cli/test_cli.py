from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from pixelseg_agents import PA3C, PA3CConfig, registered_agents
from pixelseg_agents.cli import main
from pixelseg_agents.cli.options import format_size, parse_pairs, parse_size
from pixelseg_agents.cli.task import OPTIONS
from pixelseg_agents.cli.train import train_arguments
from pixelseg_agents.evaluation import EvaluationResult, evaluate
from pixelseg_agents.networks import parameter_count
from pixelseg_env import OptionError, PixelSegVectorEnv, load_dataset, registered_datasets, registered_rewards
from tests.helpers.cli import config_of, rows_of, train_tiny
from tests.helpers.figures import drawn

FIGURES = ("learning_curve.png", "segmentation_steps.png", "dice_by_step.png", "cases.png")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "phantom"
    with drawn():
        assert train_tiny(folder, "--final-foreground-weight", "2") == 0
    return folder


def test_train_leaves_a_complete_run_folder(run: Path) -> None:
    config = config_of(run)
    assert config["arguments"]["hyper"]["final_foreground_weight"] == 2
    assert config["arguments"]["task"]["dataset_option"] == ["count=12"]
    assert config["versions"]["torch"]
    assert config["hardware"]["cores"]
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    assert config["hardware"]["processor"].endswith(" with AMX") == ("amx_bf16" in flags)
    assert {"commit", "training_set", "command", "device", "started"} <= set(config)
    agent = PA3C.load(run / "checkpoint.safetensors")
    assert agent.updates == 6
    assert agent.config.final_foreground_weight == 2
    assert [float(row["time/updates"]) for row in rows_of(run)] == [4, 6]
    assert [row["eval/dice"] != "" for row in rows_of(run)] == [False, True]
    for name in FIGURES:
        assert cv2.imread(str(run / name)).size > 10_000, name
    assert {path.name for path in run.iterdir()} == {
        *FIGURES,
        "README.md",
        "best.safetensors",
        "checkpoint.safetensors",
        "config.json",
        "evaluation.json",
        "evaluation.md",
        "progress.csv",
        "validation.json",
        *(["tensorboard"] if importlib.util.find_spec("tensorboard") else []),
    }


def test_train_evaluates_the_finished_agent_on_the_held_out_patients(run: Path) -> None:
    env = PixelSegVectorEnv(2, "phantom", split="test", size=16, horizon=2, count=12)
    expected = evaluate(PA3C.load(run / "checkpoint.safetensors"), env)
    result = EvaluationResult.load(run / "evaluation.json")
    assert result.cases == expected.cases
    for name, values in expected.metrics.items():
        np.testing.assert_allclose(result.metrics[name], values)
    content = json.loads((run / "evaluation.json").read_text())
    assert content["references"]["keep everything"]["metrics"]["SEN"]["mean"] > 0.99
    assert "Otsu" in (run / "evaluation.md").read_text()


def test_evaluate_defaults_to_the_run_and_prints_the_tables(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "evaluation.json").read_bytes()
    assert main(["evaluate", str(run)]) == 0
    shown = capsys.readouterr().out
    for word in ("DICE", "PPV", "SEN", "IoU", "BIoU", "HD95", "PA3C", "Otsu", "keep everything", "after step 2"):
        assert word in shown
    folder = run / "evaluation-test"
    assert json.loads((folder / "evaluation.json").read_text()) == json.loads(before)
    assert (folder / "cases.png").is_file()
    assert (folder / "dice_by_step.png").is_file()


def test_evaluate_at_another_horizon_leaves_the_first_result(run: Path) -> None:
    assert main(["evaluate", str(run), "--split", "val"]) == 0
    before = (run / "evaluation-val/evaluation.json").read_bytes()
    assert main(["evaluate", str(run), "--split", "val", "--horizon", "3"]) == 0
    assert (run / "evaluation-val/evaluation.json").read_bytes() == before
    assert EvaluationResult.load(run / "evaluation-val-horizon-3/evaluation.json").horizon == 3


def test_evaluate_another_split_horizon_and_data_set(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    scores = tmp_path / "scores.json"
    words = ["--split", "val", "--horizon", "3", "--json", str(scores), "--out", str(tmp_path / "out")]
    assert main(["evaluate", str(run / "checkpoint.safetensors"), *words]) == 0
    assert EvaluationResult.load(scores).cases == load_dataset("phantom", split="val", size=16, count=12).cases
    assert EvaluationResult.load(scores).horizon == 3
    capsys.readouterr()
    again = ["evaluate", str(run), "--split", "val", "--horizon", "3", "--json", str(scores)]
    assert main(again) == 0, "scores of the same data are replaced"
    for content in ("patient,image", (run / "evaluation.json").read_text()):  # the data's table; scores of other data
        scores.write_text(content)
        assert main(again) == 2
        assert "choose another --json" in capsys.readouterr().err
        assert scores.read_text() == content
    capsys.readouterr()
    words = ["--split", "all", "--dataset-option", "count=5", "--dataset-option", "seed=3", "--json", "-"]
    assert main(["evaluate", str(run), *words, "--out", str(tmp_path / "other")]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["summary"]["images"] == 5


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_more_steps_than_were_ever_trained_are_warned_of(
    command: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "a.png"
    cv2.imwrite(str(image), np.full((16, 16), 90, np.uint8))
    words = {"evaluate": ["--out", str(tmp_path / "e")], "predict": [str(image), "-o", str(tmp_path / "m.png")]}[
        command
    ]
    for horizon, warned in ((2, False), (30, True)):
        more = ["--horizon", str(horizon), *["--overwrite"] * (command == "predict")]
        assert main([command, str(run), *words, *more]) == 0
        assert ("trained for at most 2 step(s)" in capsys.readouterr().err) == warned


def test_round_trip_on_a_folder_of_images(tmp_path: Path) -> None:
    phantoms = load_dataset("phantom", split="all", size=20, count=6)
    data = tmp_path / "images"
    data.mkdir()
    for k, (image, mask) in enumerate(zip(phantoms.images, phantoms.masks, strict=True)):
        cv2.imwrite(str(data / f"{'abcdef'[k]}.png"), image[0])
        cv2.imwrite(str(data / f"{'abcdef'[k]}_mask.png"), mask * 255)
    run = tmp_path / "run"
    assert train_tiny(run, data=["--dataset", "folder", "--data", str(data)]) == 0
    assert config_of(run)["training_set"]["shape"] == [1, 16, 16]
    assert main(["evaluate", str(run), "--split", "val"]) == 0
    assert main(["predict", str(run), str(data), "-o", str(tmp_path / "masks")]) == 0
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == [f"{name}.png" for name in "abcdef"]
    masks = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (tmp_path / "masks").iterdir()]
    assert {mask.shape for mask in masks} == {(20, 20)}


@pytest.mark.parametrize("command", [["train"], ["evaluate"], ["predict"]])
def test_help_is_complete(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    assert "Examples:" in shown
    assert "--device" in shown
    if command == ["train"]:
        for name in PA3CConfig().to_dict():
            assert f"--{name.replace('_', '-')}" in shown
        assert "Adam" in shown  # the attribute docstrings are the help
        assert "(default: 0.475)" in shown, "what is left to the task is spelt out"


def test_overview_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "predict" in capsys.readouterr().out
    assert main([]) == 2
    assert main(["--version"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["train", "--agent", "pa3"], "Did you mean 'pa3c'?"),
        (["train", "--dataset", "brian"], "Did you mean 'brain'?"),
        (["train", "--dataset-option", "cuont=3"], "Did you mean 'count'?"),
        (["train", "--dataset-option", "count"], "KEY=VALUE"),
        (["train", "--dataset-option", "size=3"], "--size"),
        (["train", "--reward", "squared"], "Did you mean 'squared_error'?"),
        (["train", "--gamma", "2"], "gamma=2.0"),
        (["train", "--horizon-shares", "1", "2", "3"], "horizon_shares"),
        (["train", "--updates", "0"], "--updates 0"),
        (["train", "--horizon", "0"], "horizon=0"),
        (["train", "--dataset", "folder", "--data", "nowhere"], "nowhere"),
        (["train", "--resume", "nowhere"], "nowhere"),
        (["evaluate", "nowhere"], "nowhere"),
        (["predict", "nowhere", "a.png", "-o", "b.png"], "nowhere"),
    ],
)
def test_errors_are_one_line_and_leave_nothing_behind(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--size", "16"] if words[0] == "train" and "--resume" not in words else words) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.startswith("pixelseg: error: ")
    assert shown.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_unknown_flag_and_bad_value_are_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    for words, hint in ((["--lerning-rate", "1"], "--learning-rate"), (["--size", "big"], "--size")):
        with pytest.raises(SystemExit) as stop:
            main(["train", *words])
        assert stop.value.code == 2
        assert hint in "".join(capsys.readouterr())


def test_every_hyperparameter_flag_reaches_the_agent() -> None:
    words = ["--no-sam", "--horizons", "2", "5", "--learning-rate", "0.01", "--foreground-weight", "7"]
    config = train_arguments(["--preset", "whole", *words]).hyper
    assert config == PA3CConfig().replace(sam=False, horizons=(2, 5), learning_rate=0.01, foreground_weight=7.0)


def test_published_preset_is_the_base_that_flags_change() -> None:
    assert train_arguments(["--preset", "published"]).hyper == PA3CConfig.published()
    assert train_arguments(["--preset=published", "--width", "0.5"]).hyper == PA3CConfig.published(width=0.5)


def test_repeated_list_flags_add_up() -> None:
    task = train_arguments(["--data", "a", "--dataset-option=x=1", "--data", "b", "--dataset-option", "y=2"]).task
    assert task.data == (Path("a"), Path("b"))
    assert task.dataset_option == ("x=1", "y=2")


def test_default_folder_names_agent_data_set_and_seed() -> None:
    assert train_arguments(["--dataset", "brain", "--seed", "3"]).folder == Path("runs/pa3c-brain-s3")


@pytest.mark.parametrize(("text", "size"), [("64", 64), ("48x32", (48, 32)), ("none", None)])
def test_sizes(text: str, size: object) -> None:
    assert parse_size(text) == size
    assert format_size(size) == text
    assert train_arguments(["--size", text]).task.size == size


def test_pairs_become_values() -> None:
    pairs = ["a=1", "b=true", "c=flair", "d=[0.5,0.25,0.25]", "e-f=none", "g=x=y"]
    assert parse_pairs(pairs) == {"a": 1, "b": True, "c": "flair", "d": [0.5, 0.25, 0.25], "e_f": None, "g": "x=y"}
    with pytest.raises(OptionError, match="twice"):
        parse_pairs(["a=1", "a=2"])


def test_native_size_and_split_options_are_used(tmp_path: Path) -> None:
    words = ["--size", "none", "--split-seed", "1", "--split-by", "slice", "--eval-every", "0", "--eval-split", "val"]
    assert train_tiny(tmp_path / "run", *words, "--dataset-option", "fractions=[0.5,0.25,0.25]", updates=1) == 0
    assert config_of(tmp_path / "run")["training_set"]["shape"] == [1, 64, 64]
    chosen = load_dataset(
        "phantom", split="val", size=None, split_seed=1, split_by="slice", fractions=(0.5, 0.25, 0.25), count=12
    )
    assert EvaluationResult.load(tmp_path / "run/evaluation.json").cases == chosen.cases
    assert "eval/dice" not in rows_of(tmp_path / "run")[0]


def test_stacked_and_restorable_run_end_to_end(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["--transition", "restorable", "--observation", "stacked", "--reward", "sign"]
    assert train_tiny(run, *words, updates=2) == 0
    assert PA3C.load(run / "checkpoint.safetensors").observation == "stacked"
    assert main(["evaluate", str(run), "--split", "val"]) == 0
    assert cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9, 7), np.uint8))
    assert main(["predict", str(run), str(tmp_path / "a.png"), "-o", str(tmp_path / "m.png")]) == 0


def test_train_says_how_large_the_network_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_tiny(tmp_path / "run", "--log", "bar") == 0
    count = parameter_count(PA3C.load(tmp_path / "run/checkpoint.safetensors").network)
    assert f"PA3C: {count:,} parameters on cpu" in capsys.readouterr().out


def test_native_and_size_exclude_each_other(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(run), "a.png", "-o", str(tmp_path / "b.png"), "--native", "--size", "8"]) == 2
    assert "--native and --size" in capsys.readouterr().err


def test_help_shows_what_the_task_decides_and_a_typed_default_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--preset", "whole", "--help"])
    shown = capsys.readouterr().out
    assert "(default: 1 2 10)" in shown
    assert "{group,none}" in shown
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = capsys.readouterr().out
    assert "(default: 1 2)" in shown
    assert "(default: 128)" in shown
    assert "(default: 0.475)" in shown  # a careful first look, which none of these has
    for other in (["--look", "whole"], ["--horizons", "1", "2", "3"], ["--transition", "restorable"]):
        with pytest.raises(SystemExit):
            main(["train", *other, "--help"])
        assert "(default: 0.475)" not in capsys.readouterr().out, other
    with pytest.raises(SystemExit):
        main(["train", "--reward", "dice_gain", "--help"])
    assert "(default: 3.0)" not in capsys.readouterr().out
    plain = train_arguments(["--horizons", "10"]).hyper
    assert plain.start_bias is None  # by task: 4, for a longer episode must not begin by zeroing the image
    assert (
        train_arguments(["--horizons", "10", "--start-bias", "0"]).hyper.start_bias == 0
    )  # the default that was shown
    assert not train_arguments(["--no-sam"]).hyper.sam
    assert train_arguments(["--sam"]).hyper.sam


DATASETS = tuple(registered_datasets())  # before a test registers one of its own


def test_help_names_agents_rewards_data_sets_and_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = " ".join(word for word in capsys.readouterr().out.split() if word != "│")
    for name in (*registered_agents(), *registered_rewards(), *DATASETS):
        assert name in shown, name
    lines = [part.partition(": ") for line in OPTIONS.splitlines() for part in line.split("; ") if ": " in part]
    told = {name: text for names, _, text in lines for name in names.split(", ")}
    for name in DATASETS:
        with pytest.raises(OptionError) as refused:  # the error lists the options that a data set has
            load_dataset(name, data="nowhere", no_such_option=1)
        own = re.search(r"its options: (.*?);", str(refused.value))
        assert own is not None
        text = told[name] + (told["folder"] if "as folder" in told[name] else "")
        assert [option for option in own[1].split(", ") if option not in text] == [], name
