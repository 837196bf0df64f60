"""Several labels: one binary action per pixel and label, from the data set to the mask on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import nibabel as nib
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import tests.helpers.data as files
from pixelseg_agents import PA3C
from pixelseg_agents.cli import main
from pixelseg_agents.evaluation import EvaluationResult, evaluate, expanded, table
from pixelseg_agents.networks import PA3CNetwork
from pixelseg_agents.references import KeepAll, Otsu
from pixelseg_env import DataError, OptionError, PixelSegEnv, PixelSegVectorEnv, SegmentationDataset, load_dataset
from pixelseg_env.metrics import dice
from tests.helpers.env import REWARDS, TASKS, assert_same, random_actions

TWO: dict[str, Any] = {"dataset": "phantom", "labels": 2, "size": 16, "count": 20}


def test_the_lesion_lies_within_the_organ_and_the_scene_stays() -> None:
    one, two = (load_dataset("phantom", split="all", size=64, count=30, labels=labels) for labels in (1, 2))
    assert two.label_names == ("organ", "lesion")
    assert two.masks.shape == (30, 2, 64, 64)
    organ, lesion = two.masks[:, 0], two.masks[:, 1]
    np.testing.assert_array_equal(organ, one.masks)
    assert (lesion <= organ).all(), "the labels overlap: every lesion pixel is an organ pixel too"
    share = lesion.sum(axis=(1, 2)) / organ.sum(axis=(1, 2))
    assert 0.05 < share.min() <= share.max() < 0.2
    outside = np.broadcast_to((lesion == 0)[:, None], one.images.shape)
    assert (np.abs(one.images.astype(int) - two.images)[outside] <= 40).mean() > 0.99
    assert two.images[:, 0][lesion == 1].mean() < one.images[:, 0][lesion == 1].mean() - 20


@pytest.mark.parametrize("labels", [0, 3, True, "two"])
def test_phantoms_have_one_label_or_two(labels: Any) -> None:
    with pytest.raises(OptionError, match="1 label, or 2"):
        load_dataset("phantom", size=16, count=3, labels=labels)


@pytest.mark.filterwarnings("ignore:.*not within the observation space.*")
@pytest.mark.parametrize("observation", ["masked", "stacked"])
def test_spaces(observation: str) -> None:
    env = gym.make("PixelSegEnv-v0", observation=observation, **TWO)
    assert env.action_space == gym.spaces.MultiBinary((2, 16, 16))
    assert env.observation_space.shape == ((2, 16, 16) if observation == "masked" else (3, 16, 16))
    check_env(env.unwrapped, skip_render_check=True)
    batch = gym.make_vec("PixelSegEnv-v0", num_envs=3, **TWO)
    assert batch.action_space.shape == (3, 2, 16, 16)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_every_label_goes_its_own_way(task: tuple[str, str], reward: str, backend: str) -> None:
    """Two labels are two environments of one label each, over the same image."""
    options = {"transition": task[0], "observation": task[1], "reward": reward, "horizon": 3}
    both = load_dataset(split="all", name="phantom", **{k: v for k, v in TWO.items() if k != "dataset"})
    env = PixelSegVectorEnv(2, both, backend=backend, **options)
    alone = [PixelSegVectorEnv(2, both.label(k), **options) for k in range(2)]
    observation, info = env.reset(seed=5)
    firsts = [one.reset(seed=5) for one in alone]
    for action in random_actions((2, 2, 16, 16), 3):
        observation, rewards, terminated, _, info = env.step(action)
        parts = [one.step(action[:, k]) for k, one in enumerate(alone)]
        for k, part in enumerate(parts):
            for key in ("reward_map", "segmentation", "target"):
                np.testing.assert_array_equal(np.asarray(info[key][:, k]), part[4][key], err_msg=key)
            np.testing.assert_allclose(np.asarray(info["label_dice"])[:, k], part[4]["dice"])
        np.testing.assert_allclose(
            np.asarray(rewards), np.mean([part[1] for part in parts], axis=0), rtol=1e-5, atol=1e-9
        )
        np.testing.assert_allclose(np.asarray(info["dice"]), np.mean([part[4]["dice"] for part in parts], axis=0))
        if task[1] == "masked":
            np.testing.assert_array_equal(np.asarray(observation), np.concatenate([p[0] for p in parts], axis=1))
        else:
            np.testing.assert_array_equal(np.asarray(observation)[:, :1], firsts[0][0][:, :1])
            np.testing.assert_array_equal(np.asarray(observation)[:, 1:], np.asarray(info["segmentation"], np.float32))
    assert bool(terminated.all())


def test_single_and_vector_environments_agree() -> None:
    vector = PixelSegVectorEnv(2, horizon=2, **TWO)
    singles = [PixelSegEnv(horizon=2, **TWO) for _ in range(2)]
    observation, info = vector.reset(seed=3)
    starts = [env.reset(seed=3 + i) for i, env in enumerate(singles)]
    for action in random_actions((2, 2, 16, 16), 2):
        for i, (one, about) in enumerate(starts):
            assert_same(observation[i], one)
            assert_same({k: v[i] for k, v in info.items() if k in ("reward_map", "segmentation", "label_dice")},
                        {k: about[k] for k in ("reward_map", "segmentation", "label_dice")})  # fmt: skip
            assert info["dice"][i] == pytest.approx(about["dice"])
        observation, rewards, _, _, info = vector.step(action)
        results = [env.step(action[i]) for i, env in enumerate(singles)]
        assert rewards.tolist() == [result[1] for result in results]
        starts = [(result[0], result[4]) for result in results]


def test_frames_have_a_row_per_label() -> None:
    frames = []
    for labels in (1, 2):
        env = PixelSegEnv(render_mode="rgb_array", **(TWO | {"labels": labels}))
        env.reset(seed=0)
        env.step(env.action_space.sample())
        frames.append(env.render())
    assert frames[1] is not None and frames[0] is not None  # noqa: PT018
    assert frames[1].shape == (2 * frames[0].shape[0], *frames[0].shape[1:])


# ---------------------------------------------------------------- NIfTI


def two_labels(root: Path) -> Path:
    """Decathlon volumes whose labels hold 1 and, in its middle, 2."""
    files.write_cardiac(root)
    for path in (root / "labelsTr").iterdir():
        image: Any = nib.load(path)
        voxels = np.asarray(image.dataobj).copy()
        voxels[4:6, 3:5][voxels[4:6, 3:5] > 0] = 2
        nib.save(type(image)(voxels, image.affine, image.header), path)
    return root


def test_nifti_labels_are_named(tmp_path: Path) -> None:
    root = two_labels(tmp_path)
    options: dict[str, Any] = {"split": "all", "size": None}
    data = load_dataset("cardiac", root, labels=(1, 2), **options)
    assert data.masks.shape == (6, 2, 12, 10)
    assert data.label_names == ("label 1", "label 2")
    for k, value in enumerate((1, 2)):
        np.testing.assert_array_equal(data.masks[:, k], load_dataset("cardiac", root, label=value, **options).masks)
    assert load_dataset("cardiac", root, labels=(1, 2), split="all", size=24).masks.shape == (6, 2, 24, 24)
    for bad in ((1,), (1, 1), (0, 1), 2, "12", (1, 2.5)):
        with pytest.raises(OptionError, match="two or more different values"):
            load_dataset("cardiac", root, labels=bad, **options)
    with pytest.raises(OptionError, match="give one of them"):
        load_dataset("cardiac", root, labels=(1, 2), label=1, **options)
    with pytest.raises(DataError, match="holds the value 7"):
        load_dataset("cardiac", root, labels=(1, 7), **options)


def test_shapes_of_a_data_set() -> None:
    images, masks = np.zeros((2, 1, 4, 4), np.uint8), np.zeros((2, 3, 4, 4), np.uint8)
    masks[:, 1, :2] = 1
    data = SegmentationDataset("three", images, masks, ("a", "b"), np.arange(2))
    assert (data.labels, data.map_shape, data.label_names) == (3, (3, 4, 4), ("label 1", "label 2", "label 3"))
    assert data.class_ratios == (float("inf"), 1.0, float("inf"))
    assert data.subset([1]).masks.shape == (1, 3, 4, 4)
    with pytest.raises(DataError, match="3 labels but the names"):
        SegmentationDataset("three", images, masks, ("a", "b"), np.arange(2), ("one",))


# ---------------------------------------------------------------- agents


def env_of(split: str = "train", **options: Any) -> Any:
    return gym.make_vec("PixelSegEnv-v0", split=split, **({"num_envs": 4} | TWO | options))


def test_network_has_a_policy_and_a_value_per_label() -> None:
    image = torch.rand(2, 2, 20, 12)
    network = PA3CNetwork(2, 0.0625, labels=2, start_bias=4.0)
    logits, values = network(image)
    assert logits.shape == values.shape == (2, 2, 20, 12)
    assert logits.mean() > 2
    network.policy.output.weight.data[0] += 1.0  # a weight of the first label's sub-pixels
    moved, _ = network(image)
    assert not torch.equal(moved[:, 0], logits[:, 0])
    assert torch.equal(moved[:, 1], logits[:, 1])


@pytest.mark.parametrize("task", TASKS)
def test_training_saves_resumes_and_is_the_same_on_both_backends(task: tuple[str, str], tmp_path: Path) -> None:
    torch.set_num_threads(1)
    options: dict[str, Any] = {"transition": task[0], "observation": task[1]}
    settings: dict[str, Any] = {"width": 0.0625, "device": "cpu", "reward_map_convolution": 3}
    agent = PA3C(env_of(**options), **settings).learn(4)
    on_torch = PA3C(gym.make_vec("PixelSegEnv-v0", num_envs=4, backend="torch", **TWO, **options), **settings).learn(4)
    part = PA3C(env_of(**options), **settings).learn(4, callback=lambda a: a.updates < 2)
    again = PA3C.load(part.save(tmp_path / "a"), env_of(**options), device="cpu").learn(4)
    for other in (on_torch, again):
        for one, two in zip(agent.network.parameters(), other.network.parameters(), strict=True):
            assert torch.equal(one, two)
    assert again.label_names == ("organ", "lesion")
    with pytest.raises(OptionError, match=r"2 label\(s\), the environment has 1"):
        PA3C.load(tmp_path / "a.safetensors", env_of(labels=1, **options), device="cpu")


def test_foreground_weight_starts_at_each_labels_ratio() -> None:
    env = env_of(num_envs=2)
    weight = PA3C(env, width=0.0625, device="cpu").start_weight()
    np.testing.assert_allclose(weight, env.unwrapped.dataset.class_ratios)
    assert weight[1] > 3 * weight[0]


@pytest.mark.parametrize("keep_maps", [True, False])
def test_evaluation_scores_every_label(keep_maps: bool, tmp_path: Path) -> None:
    env = env_of("test", num_envs=3, horizon=2)
    result = evaluate(Otsu(), env, keep_maps=keep_maps)
    assert list(result.labels) == ["organ", "lesion"]
    for k, part in enumerate(result.labels.values()):
        alone = PixelSegVectorEnv(3, env.unwrapped.dataset.label(k), horizon=2)
        expected = evaluate(Otsu(), alone)
        for name, values in expected.metrics.items():
            np.testing.assert_allclose(part.metrics[name], values)
        np.testing.assert_allclose(part.returns, expected.returns, atol=1e-9)
        if keep_maps:
            np.testing.assert_array_equal(part.maps(1), expected.maps(1))
    organ, lesion = result.labels.values()
    np.testing.assert_allclose(result.metrics["DICE"], (organ.metrics["DICE"] + lesion.metrics["DICE"]) / 2)
    with pytest.raises(OptionError, match="labels"):
        result.maps(0)
    result.save(tmp_path / "result.json")
    loaded = EvaluationResult.load(tmp_path / "result.json")
    np.testing.assert_allclose(loaded.labels["lesion"].metrics["HD95"], lesion.metrics["HD95"])
    rows = table(expanded({"Otsu": result})).splitlines()
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["Otsu", "Otsu: organ", "Otsu: lesion"]


def test_command_line_from_training_to_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    words = "--dataset phantom --dataset-option labels=2 --dataset-option count=12 --size 16 --width 0.03 --batch 2"
    assert main(["train", *words.split(), "--updates", "3", "--log", "none", "--device", "cpu", "--out", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "PA3C: lesion" in shown
    assert "keep everything: organ" in shown
    for name in ("cases-organ.png", "cases-lesion.png", "segmentation_steps-lesion.png", "dice_by_step.png"):
        assert cv2.imread(str(run / name)) is not None, name
    image = load_dataset("phantom", split="all", size=24, count=1, labels=2).images[0, 0]
    cv2.imwrite(str(tmp_path / "a.png"), image)
    assert main(["predict", str(run), str(tmp_path / "a.png"), "-o", str(tmp_path / "out.png")]) == 0
    for label in ("organ", "lesion"):
        mask = cv2.imread(str(tmp_path / f"out_{label}.png"), cv2.IMREAD_GRAYSCALE)
        assert mask is not None
        assert mask.shape == (24, 24)
        assert set(np.unique(mask)) <= {0, 255}
    assert not (tmp_path / "out.png").exists()
    assert main(["predict", str(run), str(tmp_path / "a.png"), "-o", str(tmp_path / "out.png")]) == 2, "they exist now"
    volume = nib.Nifti1Image(np.random.default_rng(0).random((12, 10, 3)).astype(np.float32), np.diag([2.0, 3, 4, 1]))
    nib.save(volume, tmp_path / "v.nii.gz")
    words = ["predict", str(run), str(tmp_path / "v.nii.gz"), "-o", str(tmp_path / "v_mask.nii.gz")]
    assert main([*words, "--dataset", "nifti"]) == 0
    found: Any = nib.load(tmp_path / "v_mask_lesion.nii.gz")
    assert found.shape == (12, 10, 3)
    np.testing.assert_array_equal(found.affine, volume.affine)


@pytest.mark.slow
def test_pa3c_learns_organ_and_lesion() -> None:
    """Overlapping labels: the lesion is not cut out of the organ, and both are found."""
    torch.set_num_threads(1)
    train = gym.make_vec("PixelSegEnv-v0", num_envs=8, labels=2, size=32, count=300)
    test = gym.make_vec("PixelSegEnv-v0", num_envs=8, labels=2, size=32, count=300, split="test")
    agent = PA3C(train, width=0.25, seed=0, device="cpu").learn(1500)
    rows = {name: evaluate(predictor, test).labels for name, predictor in
            {"PA3C": agent, "Otsu": Otsu(), "all": KeepAll()}.items()}  # fmt: skip
    scores = {name: {label: float(r.metrics["DICE"].mean()) for label, r in row.items()} for name, row in rows.items()}
    assert scores["PA3C"]["organ"] > max(0.85, scores["Otsu"]["organ"] + 0.3)
    assert scores["PA3C"]["lesion"] > max(0.5, scores["Otsu"]["lesion"] + 0.3)
    maps = [np.stack([part.maps(i)[-1] for i in range(len(part))]) for part in rows["PA3C"].values()]
    assert float(dice(maps[0] & maps[1], maps[1]).mean()) > 0.9, "most of what is lesion is organ as well"
