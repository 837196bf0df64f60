"""`evaluate` on an environment small enough to check by hand, and on the real one."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import pixelseg_env
from pixelseg_agents import PA3C
from pixelseg_agents.evaluation import EvaluationResult, evaluate, report, segment, table
from pixelseg_agents.files import write_atomically
from pixelseg_agents.references import KeepAll, Otsu, Random
from pixelseg_env import PixelSegEnv, SegmentationDataset
from pixelseg_env.errors import DataError, OptionError
from pixelseg_env.metrics import METRICS, compute_metrics
from pixelseg_env.views import FlatActions, PixelVecEnv


def make_dataset(count: int = 7, height: int = 12, width: int = 10) -> SegmentationDataset:
    rng = np.random.default_rng(0)
    masks = np.zeros((count, height, width), np.uint8)
    for i in range(count):
        masks[i, 1 : 4 + i, 2 : 5 + i % 3] = 1
    images = np.clip(masks[:, None] * 0.5 + rng.random((count, 1, height, width)) * 0.3, 0, 1).astype(np.float32)
    cases = tuple(f"patient-{i // 3}" for i in range(count))
    return SegmentationDataset("tiny", images, masks, cases, np.arange(count, dtype=np.int64) + 10)


class FakeEnv:
    """The least of the vector environment's public API: absorbing, masked."""

    def __init__(self, dataset: SegmentationDataset, num_envs: int, horizon: int = 4) -> None:
        self.dataset, self.num_envs, self.horizon = dataset, num_envs, horizon
        self.batches: list[list[int]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any]) -> tuple[NDArray, dict[str, Any]]:
        self.batches.append(list(options["index"]))
        self._images, self._targets = self.dataset.batch(options["index"])
        self._left = options["horizon"]
        self._map = np.ones_like(self._targets)
        return self._images.copy(), {}

    def step(self, actions: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray, dict[str, Any]]:
        assert actions.shape == self._targets.shape
        previous, self._map = self._map, self._map & actions.astype(np.uint8)
        self._left -= 1
        reward = ((previous - self._targets.astype(float)) ** 2 - (self._map - self._targets.astype(float)) ** 2).mean(
            axis=(1, 2)
        )
        ended = np.full(self.num_envs, self._left <= 0)
        info = {"segmentation": self._map.copy(), "target": self._targets.copy()}
        return self._images * self._map[:, None], reward, ended, np.zeros_like(ended), info


class Peeler:
    """Takes one column more off the right at every step, which it counts in its state."""

    def __init__(self, flat: bool = False) -> None:
        self.starts: list[NDArray] = []
        self.flat = flat

    def predict(
        self, observation: NDArray, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[NDArray, int]:
        self.starts.append(episode_start.copy())
        taken = 1 if state is None else state + 1
        actions = np.ones((len(observation), *observation.shape[2:]), np.int8)
        actions[:, :, -taken:] = 0
        return (actions.reshape(len(actions), -1) if self.flat else actions), taken


def expected_maps(dataset: SegmentationDataset, steps: int) -> NDArray[np.uint8]:
    maps = np.ones((len(dataset), steps, *dataset.image_shape[1:]), np.uint8)
    for step in range(steps):
        maps[:, step, :, -(step + 1) :] = 0
    return maps


@pytest.mark.parametrize("num_envs", [1, 3, 7, 20])
@pytest.mark.parametrize("flat", [False, True])
def test_every_image_once_and_scored_by_step(num_envs: int, flat: bool) -> None:
    dataset = make_dataset()
    env = FakeEnv(dataset, num_envs)
    result = evaluate(Peeler(flat), env, by_step=["HD95"])
    assert len(result) == 7
    assert result.horizon == 4
    assert result.dataset == "tiny"
    assert result.cases == dataset.cases
    np.testing.assert_array_equal(result.slices, dataset.slices)
    visited = [index for batch in env.batches for index in batch]
    assert set(visited) == set(range(7))
    assert all(len(batch) == num_envs for batch in env.batches)
    maps = expected_maps(dataset, 4)
    for i in range(7):
        np.testing.assert_array_equal(result.maps(i), maps[i])
    for step in range(4):
        scores = compute_metrics(maps[:, step], dataset.masks)
        np.testing.assert_allclose(result.dice_by_step[:, step], scores["DICE"])
        np.testing.assert_allclose(result.biou_by_step[:, step], scores["BIoU"])
        np.testing.assert_allclose(result.more_by_step["HD95"][:, step], scores["HD95"])
    for name, values in scores.items():
        np.testing.assert_allclose(result.metrics[name], values)
    telescoped = (1 - dataset.masks.astype(float)) ** 2 - (maps[:, -1] - dataset.masks.astype(float)) ** 2
    np.testing.assert_allclose(result.returns, telescoped.mean(axis=(1, 2)))


def test_an_environment_of_other_shapes_of_actions_is_played_and_a_view_is_named() -> None:
    data = make_dataset()
    flat = FlatActions(PixelSegEnv(data, horizon=4))
    np.testing.assert_array_equal(
        evaluate(Peeler(True), flat).metrics["DICE"], evaluate(Peeler(), PixelSegEnv(data, horizon=4)).metrics["DICE"]
    )
    with pytest.raises(OptionError, match=r"expected a PixelSegVectorEnv or a PixelSegEnv.*got PixelVecEnv"):
        evaluate(Peeler(), PixelVecEnv(1, dataset=data, horizon=4))


@pytest.mark.parametrize("transition", ["absorbing", "restorable"])
@pytest.mark.parametrize("observation", ["masked", "stacked"])
@pytest.mark.parametrize("time", [False, True])
def test_what_changes_nothing_any_more_is_not_computed_again(transition: str, observation: str, time: bool) -> None:
    """The masks are those of ten passes; a plane of time changes at every step, so there all ten are made."""
    torch.set_num_threads(1)
    rules = {"transition": transition, "observation": observation, "observe_time": time}
    env = gym.make_vec("PixelSegEnv-v0", num_envs=1, split="test", size=16, count=40, **rules).unwrapped
    agent = PA3C(env, width=0.06, device="cpu", seed=3)
    passes: list[int] = []
    agent.network.trunk[0].register_forward_hook(lambda *_: passes.append(1))
    found = {}
    for agent.repeats in (False, True):  # type: ignore[misc]
        passes.clear()
        result = evaluate(agent, env, 10)
        found[agent.repeats] = (len(passes), [result.maps(k) for k in range(len(result))], result.returns)
    assert found[False][0] == 10 * 8
    # Untrained, it has redrawn every map to the end; where zero is final, it runs out of pixels.
    assert 16 <= found[True][0] < 60 if transition == "absorbing" and not time else found[True][0] == 80
    np.testing.assert_array_equal(found[False][1], found[True][1])
    np.testing.assert_array_equal(found[False][2], found[True][2])


class Eater:
    """Takes a column off the left at every step, of an image of value v / 10 until v are gone; notes whom it saw."""

    transition, observation = "absorbing", "masked"

    def __init__(self, repeats: bool) -> None:
        self.repeats = repeats
        self.asked: list[list[int]] = []

    def predict(self, observation: NDArray, state: Any = None, **_: Any) -> tuple[NDArray, None]:
        values = np.rint(observation.max(axis=(1, 2, 3)) * 10).astype(int)
        self.asked.append(values.tolist())
        gone = (observation[:, 0, 0] == 0).sum(axis=1)
        columns = np.arange(observation.shape[-1])
        keep = columns >= np.minimum(gone + 1, values)[:, None]
        return np.broadcast_to(keep[:, None], observation[:, 0].shape).astype(np.int8), None


def test_an_image_that_changes_no_more_leaves_the_batch() -> None:
    images = np.full((5, 1, 6, 6), 0.1, np.float32) * np.array([1, 3, 2, 4, 3], np.float32)[:, None, None, None]
    masks = {}
    for repeats in (False, True):
        eater = Eater(repeats)
        masks[repeats] = segment(eater, images, horizon=6, batch=3)
        np.testing.assert_array_equal(masks[repeats][:, 0].argmax(axis=1), [1, 3, 2, 4, 3])
    # A last look tells that nothing changes; the image that fills up the last batch is not looked at; one that is left
    # alone is computed as two.
    first = [[1, 3, 2], [1, 3, 2], [3, 2], [3, 3]]
    assert eater.asked == [*first, [4, 3], [4, 3], [4, 3], [4, 3], [4, 4]]
    np.testing.assert_array_equal(masks[False], masks[True])


def test_the_predictor_is_told_of_new_episodes() -> None:
    peeler = Peeler()
    evaluate(peeler, FakeEnv(make_dataset(5), 3), horizon=2)
    assert [bool(start.all()) for start in peeler.starts] == [True, False, True, False]
    assert not any(start.any() for start in peeler.starts[1::2])


def test_horizon_and_maps_are_options() -> None:
    result = evaluate(Peeler(), FakeEnv(make_dataset(), 4), horizon=2, keep_maps=False)
    assert result.dice_by_step.shape == (7, 2)
    with pytest.raises(OptionError, match="holds no maps"):
        result.maps(0)


def test_an_episode_of_another_length_is_an_error() -> None:
    class Deaf(FakeEnv):
        def reset(self, *, seed: int | None = None, options: dict[str, Any]) -> tuple[NDArray, dict[str, Any]]:
            return super().reset(options={**options, "horizon": 3})

    with pytest.raises(OptionError, match="expected every episode to end at step 5, not at step 3"):
        evaluate(Peeler(), Deaf(make_dataset(), 4), horizon=5)
    with pytest.raises(OptionError, match="end at step 2"):
        evaluate(Peeler(), Deaf(make_dataset(), 4), horizon=2)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize("observation", ["masked", "stacked"])
def test_on_the_real_environment(mode: str, observation: str) -> None:
    dataset = make_dataset(height=16, width=16)
    env = gym.make_vec(
        "PixelSegEnv-v0", num_envs=4, dataset=dataset, split="all", autoreset_mode=mode, observation=observation
    )
    result = evaluate(Peeler(), env, horizon=3)
    maps = expected_maps(dataset, 3)
    for i in range(len(dataset)):
        np.testing.assert_array_equal(result.maps(i), maps[i])
    np.testing.assert_allclose(result.metrics["DICE"], compute_metrics(maps[:, -1], dataset.masks)["DICE"])
    telescoped = (1 - dataset.masks.astype(float)) ** 2 - (maps[:, -1] - dataset.masks.astype(float)) ** 2
    np.testing.assert_allclose(result.returns, telescoped.mean(axis=(1, 2)), atol=1e-6)
    again = evaluate(Peeler(), env, horizon=3)
    assert again.to_json() == result.to_json()


def test_references_on_the_phantom() -> None:
    env = gym.make_vec("PixelSegEnv-v0", num_envs=8, dataset="phantom", split="test", size=32, horizon=3)
    keep, otsu = evaluate(KeepAll(), env), evaluate(Otsu(), env)
    assert keep.metrics["SEN"].min() == 1.0
    assert np.all(keep.returns == 0)
    assert otsu.metrics["DICE"].mean() > keep.metrics["DICE"].mean()
    assert otsu.metrics["DICE"].mean() < 0.6  # the phantom must not fall to a threshold
    np.testing.assert_array_equal(otsu.dice_by_step[:, 0], otsu.dice_by_step[:, -1])


def test_otsu_finds_the_bright_object_and_repeats_itself() -> None:
    dataset = make_dataset()
    images, masks = dataset.batch(range(7))
    actions, state = Otsu().predict(images, None, np.ones(7, bool))
    np.testing.assert_array_equal(actions, masks)
    assert actions.dtype == np.int8
    carved = images * actions[:, None]
    later, state = Otsu().predict(carved, state, np.zeros(7, bool))
    np.testing.assert_array_equal(later, masks)
    later, state = Otsu().predict(carved, state)  # SB3 also leaves episode_start out
    np.testing.assert_array_equal(later, masks)
    start = np.arange(7) == 2
    kept = state[0].copy()
    other, _ = Otsu().predict(images[::-1], state, start)
    np.testing.assert_array_equal(other[2], masks[::-1][2])
    np.testing.assert_array_equal(other[~start], masks[~start])
    np.testing.assert_array_equal(state[0], kept)  # a caller's state is not written to


def test_otsu_ignores_the_stacked_map_and_takes_one_channel() -> None:
    images, masks = make_dataset().batch(range(7))
    stacked = np.concatenate([images, np.ones_like(images)], axis=1)
    np.testing.assert_array_equal(Otsu().predict(stacked)[0], masks)
    np.testing.assert_array_equal(Otsu(channel=0).predict(stacked)[0], masks)
    flat = np.full((2, 1, 8, 8), 0.3, np.float32)
    assert not Otsu().predict(flat)[0].any()


def test_random_is_seeded() -> None:
    observation = np.zeros((3, 2, 50, 50), np.float32)
    first, second, other = (Random(seed).predict(observation)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
    assert first.shape == (3, 50, 50)
    assert first.dtype == np.int8
    assert set(np.unique(first)) == {0, 1}
    assert Random(0, keep=0.9).predict(observation)[0].mean() == pytest.approx(0.9, abs=0.02)


def result_of(scores: list[float], cases: list[str]) -> EvaluationResult:
    values = np.array(scores)
    return EvaluationResult(
        "x", tuple(cases), np.arange(len(cases)), dict.fromkeys(METRICS, values),
        values[:, None] * [0.5, 1.0], values[:, None] * [0.25, 0.5], values, (4, 4),
    )  # fmt: skip


def test_summary_over_images_and_over_patients() -> None:
    summary = result_of([0.0, 0.2, 0.4, 1.0], ["a", "a", "a", "b"]).summary()
    assert (summary["images"], summary["patients"], summary["horizon"]) == (4, 2, 2)
    spread = summary["metrics"]["DICE"]
    assert spread["mean"] == pytest.approx(0.4)
    assert spread["sd"] == pytest.approx(np.std([0.0, 0.2, 0.4, 1.0]))
    assert spread["patient_mean"] == pytest.approx(0.6)  # of 0.2 and 1.0
    assert spread["patient_sd"] == pytest.approx(0.4)
    assert summary["dice_by_step"] == pytest.approx([0.2, 0.4])
    assert result_of([0.3], ["a"]).summary()["metrics"]["HD95"]["sd"] == 0.0


def test_save_and_load(tmp_path: Path) -> None:
    result = evaluate(Peeler(), FakeEnv(make_dataset(), 4), by_step=["HD95", "PPV", "BIoU-2px"])
    path = tmp_path / "new" / "result.json"
    result.save(path)
    assert [file.name for file in path.parent.iterdir()] == ["result.json"]
    rows = json.loads(path.read_text())["per_case"]
    assert rows[3]["case"] == "patient-1"
    assert rows[3]["slice"] == 13
    loaded = EvaluationResult.load(path)
    assert loaded.to_json() == result.to_json()
    assert loaded.packed is None
    assert loaded.more_by_step.keys() == {"HD95", "PPV", "BIoU-2px"}
    with pytest.raises(OptionError, match=r"by_step='HD96'.*HD95"):
        evaluate(Peeler(), FakeEnv(make_dataset(), 4), by_step=["HD96"])


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"summary": {}, "per_case": 3}'])
def test_load_names_a_file_that_is_no_result(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"broken\.json"):
        EvaluationResult.load(path)
    with pytest.raises(DataError, match=r"missing\.json"):
        EvaluationResult.load(tmp_path / "missing.json")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    write_atomically(path, "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # as a write says it, without the file

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*result\.json'"):
        write_atomically(path, "new")


def test_the_scores_of_a_report_are_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with scores is done; one whose disk was full before has to be able to go on."""
    dataset = make_dataset()
    result = evaluate(Peeler(), FakeEnv(dataset, 4))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(report, "step_figure", full)
        with pytest.raises(OSError, match="No space left"):
            report.write_report(tmp_path, {"mine": result}, dataset, {})
    assert not (tmp_path / report.REPORT).exists()
    report.write_report(tmp_path, {"mine": result}, dataset, {})
    assert (tmp_path / report.REPORT).exists()


def test_table_lines_up() -> None:
    text = table({"PA3C": result_of([0.25, 0.75], ["a", "b"]), "keep all": result_of([0.0, 0.0], ["a", "b"])})
    lines = text.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [cell.strip() for cell in lines[0].split("|")[2:-1]] == [
        "DICE ↑", "PPV ↑", "SEN ↑", "IoU ↑", "BIoU ↑", "HD95 ↓",
    ]  # fmt: skip
    assert "0.500 ± 0.250" in lines[2]
    assert lines[2].rstrip(" |").endswith("0.5 ± 0.2")
    uneven = {"x": result_of([0.0, 0.2, 0.4, 1.0], ["a", "a", "a", "b"])}
    assert "0.600 ± 0.400" in table(uneven, by_patient=True)


OPTIONS: dict[str, Any] = {"dataset": "phantom", "split": "test", "size": 16, "horizon": 2, "count": 30}


def wrapped(kind: str) -> Any:
    if kind == "vector wrapper":
        return gym.wrappers.vector.RecordEpisodeStatistics(gym.make_vec("PixelSegEnv-v0", num_envs=4, **OPTIONS))
    single = gym.wrappers.RecordEpisodeStatistics(gym.make("PixelSegEnv-v0", **OPTIONS))
    return gym.vector.SyncVectorEnv([lambda: single]) if kind == "one in SyncVectorEnv" else single


@pytest.mark.parametrize("kind", ["vector wrapper", "single", "one in SyncVectorEnv"])
def test_wrapped_environments_score_like_plain_ones(kind: str) -> None:
    plain = evaluate(Otsu(), pixelseg_env.PixelSegVectorEnv(3, **OPTIONS))
    found = evaluate(Otsu(), wrapped(kind))
    np.testing.assert_array_equal(found.dice_by_step, plain.dice_by_step)
    np.testing.assert_allclose(found.returns, plain.returns)


def test_the_predictor_sees_what_wrappers_hand_out() -> None:
    dark = gym.wrappers.vector.TransformObservation(
        gym.make_vec("PixelSegEnv-v0", num_envs=4, **OPTIONS), lambda observation: observation * 0
    )
    seen: list[float] = []

    class Looks(KeepAll):
        def predict(self, observation: Any, *others: Any, **more: Any) -> Any:
            seen.append(float(observation.max()))
            return super().predict(observation, *others, **more)

    evaluate(Looks(), dark)
    assert set(seen) == {0.0}


@pytest.mark.parametrize(
    "make",
    [
        lambda: gym.vector.SyncVectorEnv([lambda: gym.make("PixelSegEnv-v0", **OPTIONS)] * 2),
        lambda: gym.make("CartPole-v1"),
    ],
)
def test_other_environments_are_refused_in_words(make: Any) -> None:
    with pytest.raises(OptionError, match="make_vec"):
        evaluate(Otsu(), make())
