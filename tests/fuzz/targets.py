"""Every kind of file that a user can hand in: honest examples, and what reads them.

A target's `read(folder, content, rng)` writes the spoilt file beside honest ones and calls a public loader. It may
return (a value), or raise a `PixelSegError` whose message names the file; `run` counts anything else as a finding.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import io
import json
import math
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import nibabel as nib
import numpy as np
from PIL import Image

from pixelseg_agents import AC, PA3C, PixelAgent
from pixelseg_agents.cli import main
from pixelseg_agents.cli.config_file import with_config
from pixelseg_agents.cli.outputs import Job
from pixelseg_agents.cli.predict import FilePredictor, PredictArguments, predict, run_job
from pixelseg_agents.cli.runs import open_run, run_size
from pixelseg_agents.evaluation.figures import compared_curves
from pixelseg_agents.evaluation.results import EvaluationResult
from pixelseg_agents.registry import load_agent
from pixelseg_env import PixelSegError, PixelSegVectorEnv, SegmentationDataset, load_dataset
from pixelseg_env.datasets import file_reader, survey_dataset
from tests.fuzz import mutations
from tests.helpers.data import write_dicom

Read = Callable[[Path, bytes, random.Random], Any]
H, W, Z = 12, 16, 3
NETWORK = 48 << 20  # bytes that an agent takes for an image whose one side is a few thousand pixels, truly
ENOUGH = 2_000_000  # pixels that are segmented of one file: seconds


class RefusedError(PixelSegError):
    """What a command line printed before it ended with code 2."""


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        honest: examples of the kind that are whole.
        read: writes a file of that content and reads it.
        special: mutators that know the format.
        names: one of these must stand in the message of a refusal; the spoilt file's own, mostly.
        honest_bytes: memory that reading an honest file takes.
        reason: why the kind cannot be tried here; empty if it can.
    """

    honest: Sequence[bytes]
    read: Read
    special: Sequence[mutations.Mutator] = ()
    names: Sequence[str] = ("spoilt",)
    reason: str = ""
    honest_bytes: int = H * W * Z * 16


def targets() -> dict[str, Target]:
    """All kinds by name."""
    # A run and checkpoints are trained once, here, before any worker is forked.
    examples = _Examples()
    found: dict[str, Target] = {}
    for kind, (files, special) in _image_kinds().items():
        found[f"{kind} image"] = Target(files, _pair(kind, examples, mask=False), special)
        found[f"{kind} mask"] = Target(files, _pair(kind, examples, mask=True), special)
        found[f"{kind} predict"] = Target(files, _predict(f".{kind}", examples), special, honest_bytes=NETWORK)
    found["png labels"] = Target(_numbered(), _labels(examples), (mutations.png,))
    tiffs = _image_kinds()["tif"][0]
    found["tif brain"] = Target([tiffs[1], *tiffs], _brain, (mutations.tiff,), ("_2.tif",))
    plain, packed = _nifti(), [gzip.compress(one, mtime=0) for one in _nifti()]
    inside = mutations.packed(mutations.nifti)
    for ending, files, special in ((".nii", plain, mutations.nifti), (".nii.gz", packed, inside)):
        found[f"{ending[1:]} image"] = Target(files, _volume(ending, "imagesTr", packed), (special,))
        found[f"{ending[1:]} label"] = Target(files, _volume(ending, "labelsTr", packed), (special,))
        found[f"{ending[1:]} predict"] = Target(
            files, _predict(ending, examples, "nifti"), (special,), honest_bytes=NETWORK
        )
    found["nifti list"] = Target(
        [_listing()], _task_listing(packed), (mutations.json_text,), ("dataset.json", "a.nii.gz", "labelsTr")
    )
    found["table"] = Target(
        _tables(), _table(examples), (mutations.csv_text,), ("spoilt", "a.png: ")
    )  # it may name that as a mask
    has_dicom = importlib.util.find_spec("pydicom") is not None
    found["dicom"] = Target(
        _dicom() if has_dicom else [b""],
        _series(_dicom(), packed) if has_dicom else _nothing,
        (mutations.dicom,),
        ("spoilt", "series"),
        "" if has_dicom else "pydicom is not installed",
    )
    found["dicom predict"] = replace(
        found["dicom"], read=_series(_dicom(), packed, examples) if has_dicom else _nothing, honest_bytes=NETWORK
    )
    found["hecktor image"] = Target(packed, _hecktor("spoilt_pt.nii.gz", packed), (inside,))
    found["hecktor label"] = Target(packed, _hecktor("spoilt_ct_gtvt.nii.gz", packed), (inside,))
    names = ("spoilt", "no box of case")
    found["hecktor boxes"] = Target([_boxes()], _hecktor("spoilt_bbox.csv", packed), (mutations.csv_text,), names)
    found["checkpoint"] = Target(examples.checkpoints, _checkpoint, (mutations.safetensors,))
    found["checkpoint predict"] = Target(examples.checkpoints, _predict_with(examples), (mutations.safetensors,))
    found["run config"] = Target([examples.config], _run(examples), (mutations.json_text,), ("config.json", "spoilt"))
    found["result"] = Target([examples.result], _result, (mutations.json_text,))
    found["progress"] = Target([_progress()], _compare(), (mutations.csv_text,), ("spoilt", "progress.csv"))
    found["record"] = Target([examples.record], _record, (mutations.json_text,))
    found["json flags"] = Target([_flags()], _config(".json"), (mutations.json_text,))
    has_yaml = importlib.util.find_spec("yaml") is not None
    found["yaml flags"] = Target(
        [b"updates: 20\nsize: 16\nhorizons: [1, 2]\naugmentation: false\ntask:\n  dataset: phantom\n", _flags()],
        _config(".yaml"),
        (mutations.yaml_text, mutations.json_text),
        reason="" if has_yaml else "PyYAML is not installed",
    )
    return found


def _nothing(folder: Path, content: bytes, rng: random.Random) -> None:
    raise AssertionError("this kind cannot be tried here")


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# ---------------------------------------------------------------- honest content


def _grey(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 255, (H, W)).astype(np.uint8)


def _mask() -> np.ndarray:
    mask = np.zeros((H, W), np.uint8)
    mask[3:9, 4:11] = 255
    return mask


def _encoded(ending: str, pixels: np.ndarray, *options: int) -> bytes:
    return bytes(cv2.imencode(f".{ending}", pixels, list(options))[1].tobytes())


def _image_kinds() -> dict[str, tuple[list[bytes], tuple[mutations.Mutator, ...]]]:
    """Examples that are an image and a mask at once: a square of one value."""
    grey, mask, colour = _grey(), _mask(), np.dstack([_mask()] * 3)
    wide, cut_out = mask.astype(np.uint16) * 257, np.dstack([colour, mask])
    lzw, packbits, deflate = ([cv2.IMWRITE_TIFF_COMPRESSION, code] for code in (5, 32773, 8))
    tiffs = [_encoded("tif", mask, *lzw), _encoded("tif", colour, *packbits), _encoded("tif", wide, *deflate)]
    tiffs += [_encoded("tif", mask, cv2.IMWRITE_TIFF_COMPRESSION, 1), _encoded("tif", grey, *lzw)]
    tiffs.append(bytes(cv2.imencodemulti(".tif", [mask, mask])[1].tobytes()))
    pngs = [_encoded("png", mask), _encoded("png", colour), _encoded("png", wide)]
    pngs.append(_encoded("png", cut_out))
    jpegs = [_encoded("jpg", mask), _encoded("jpg", colour), _encoded("jpg", mask, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)]
    webps = [_saved("webp", one, lossless=lossless) for lossless in (True, False) for one in (colour, cut_out)]
    return {
        "png": (pngs, (mutations.png,)),
        "jpg": (jpegs, (mutations.jpeg,)),
        "tif": (tiffs, (mutations.tiff,)),
        "bmp": ([_encoded("bmp", mask), _encoded("bmp", colour)], ()),
        "gif": ([_saved("gif", mask), _saved("gif", colour), _saved("gif", mask, transparency=0)], ()),
        "webp": (webps, ()),
        "ppm": ([_saved("ppm", mask), _saved("ppm", colour), _plain_ppm(mask), _saved("ppm", wide)], ()),
    }


def _saved(kind: str, pixels: np.ndarray, **options: Any) -> bytes:
    """As Pillow writes it: kinds of which OpenCV writes none, or one form alone."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def _plain_ppm(pixels: np.ndarray) -> bytes:
    """A pgm in letters, with a comment, whose white is 15."""
    rows = "\n".join(" ".join(str(value // 17) for value in row) for row in pixels)
    return f"P2\n# made by hand\n{W} {H}\n15\n{rows}\n".encode()


def _numbered() -> list[bytes]:
    """Masks of two labels as numbers; the second is of one label."""
    numbers = _mask() // 255
    numbers[6:9] *= 2
    return [_encoded("png", numbers), _encoded("png", _mask())]


def _nifti() -> list[bytes]:
    """Volumes that are image and label at once, in several types; one of NIfTI-2."""
    voxels = np.zeros((H, W, Z), np.uint8)
    voxels[3:9, 4:11, 1:] = 1
    made: list[Any] = [nib.Nifti1Image(voxels.astype(kind), np.eye(4)) for kind in (np.uint8, np.int16, np.float32)]
    made.append(nib.Nifti2Image(voxels, np.eye(4)))
    return [bytes(image.to_bytes()) for image in made]


def _dicom() -> list[bytes]:
    """The files of one series, each a slice."""
    volume = np.random.default_rng(0).integers(0, 900, (H, W, Z)).astype(np.uint16)
    with tempfile.TemporaryDirectory() as folder:
        write_dicom(Path(folder), volume)
        return [path.read_bytes() for path in sorted(Path(folder).iterdir())]


def _listing() -> bytes:
    files = [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}]
    content = {"name": "x", "labels": {"0": "background", "1": "object"}, "file_ending": ".nii.gz", "training": files}
    return json.dumps(content | {"numTraining": 1}).encode()


def _tables() -> list[bytes]:
    rows = "".join(f"{name}.png,{name}_mask.png,p{k},{k}\n" for k, name in enumerate("abc"))
    return [f"image,mask,patient,slice\n{rows}".encode(), b"image;mask\na.png;a_mask.png\nb.png;b_mask.png\n"]


def _boxes() -> bytes:
    rows = "".join(f"{case},-12,0,-16,0,0,3\n" for case in ("a", "spoilt"))
    return f"PatientID,x1,x2,y1,y2,z1,z2\n{rows}".encode()


def _progress() -> bytes:
    return b"time/updates,train/dice,train/reward,eval/dice\n4,0.2,0.1,\n8,0.3,0.2,0.4\n10,0.35,,0.5\n"


def _flags() -> bytes:
    task = {"dataset": "phantom", "data": [], "size": 16, "horizon": 2, "dataset_option": ["count=12"]}
    hyper = {"width": 0.1, "horizons": [1, 2], "augmentation": False}
    return json.dumps({"updates": 20, "batch": 4, "task": task, "hyper": hyper, "resume": None}).encode()


class _Examples:
    """What has to be made with the package itself: agents of two kinds, the folder of a run, scores, a record."""

    def __init__(self) -> None:
        images = np.random.default_rng(0).integers(0, 255, (2, 1, 16, 16)).astype(np.uint8)
        masks = np.zeros((2, 16, 16), np.uint8)
        masks[:, 4:9, 4:9] = 1
        dataset = SegmentationDataset("tiny", images, masks, ("a", "b"), np.arange(2))
        env = PixelSegVectorEnv(num_envs=2, dataset=dataset, split="all", horizon=2)
        small = {"blocks": 1, "sam": False, "dilation": False, "detail": False}
        agents = [
            PA3C(env, width=0.03, horizons=(1,), device="cpu", **small),
            AC(env, width=0.03, horizons=(1,), device="cpu"),
        ]
        agents[0].learn(1)
        self.agent = agents[0]
        with tempfile.TemporaryDirectory() as folder:
            self.checkpoints = [agent.save(Path(folder) / agent.name).read_bytes() for agent in agents]
        task = {"dataset": "folder", "data": ["images"], "size": 16, "horizon": 2, "dataset_option": []}
        task |= {"split_by": "patient", "split_seed": 0, "reward": "squared_error", "coarse": None}
        task |= {"transition": "absorbing", "observation": "masked"}
        arguments = {"agent": "pa3c", "updates": 2, "task": task, "hyper": {"width": 0.03}}
        self.config = json.dumps({"arguments": arguments, "working_folder": "."}).encode()
        curve = np.linspace(0, 1, 4).reshape(2, 2)
        result = EvaluationResult(
            "tiny", ("a", "b"), np.arange(2), {"dice": curve[0], "iou": curve[1]}, curve, curve, curve[0], (16, 16)
        )
        labelled = result.to_json() | {"labels": {"one": result.to_json()}}
        self.result = json.dumps(labelled).encode()
        self.record = json.dumps({"agent": "pa3c", "seed": 0, "test": {"dice": 0.5}, "curve": [0.1, 0.2]}).encode()
        self.image, self.mask = _encoded("png", _grey()), _encoded("png", _mask())


# ---------------------------------------------------------------- loaders


def _pair(ending: str, examples: _Examples, mask: bool) -> Read:
    """The spoilt file as one image or mask of three, through the loader, the survey, or the reader of single files."""

    def read(folder: Path, content: bytes, rng: random.Random) -> Any:
        for name in ("a", "b"):
            _write(folder / f"{name}.png", examples.image)
            _write(folder / f"{name}_mask.png", examples.mask)
        spoilt = _write(folder / f"spoilt{'_mask' if mask else ''}.{ending}", content)
        _write(folder / f"spoilt{'' if mask else '_mask'}.png", examples.image if mask else examples.mask)
        chance = rng.random()
        if chance < 0.15:
            return survey_dataset("folder", folder)
        if chance < 0.4 and not mask:
            return _read_single("folder", spoilt, rng)
        threshold = 100 if rng.random() < 0.3 else None
        return load_dataset("folder", folder, split="all", size=rng.choice((16, None)), threshold=threshold)

    return read


def _labels(examples: _Examples) -> Read:
    """The spoilt file as the numbers of two labels, or as the mask of one of two labels with a folder each."""

    def read(folder: Path, content: bytes, rng: random.Random) -> Any:
        named = rng.random() < 0.3
        honest = [examples.mask] * 2 if named else [_numbered()[0]]
        for name in ("a", "b", "spoilt"):
            _write(folder / "images" / f"{name}.png", examples.image)
            for place, mask in zip(("one", "two") if named else ("",), honest, strict=True):
                _write(folder / "masks" / place / f"{name}.png", mask)
        _write(folder / "masks" / ("two" if named else "") / "spoilt.png", content)
        labels = ("one", "two") if named else (1, 2)
        return load_dataset("folder", folder, split="all", size=rng.choice((16, None)), labels=labels)

    return read


def _read_single(dataset: str, path: Path, rng: random.Random) -> Any:
    file = file_reader(dataset).read(path, rng.choice(((16, 16), None)), "resize", 1, {})
    count, _, height, width = file.images.shape
    masks = file.restore(np.zeros((count, height, width), np.uint8))
    return file.encode(np.ascontiguousarray(masks), "out.nii.gz" if dataset == "nifti" else "out.tif")


def _brain(folder: Path, content: bytes, rng: random.Random) -> Any:
    case, kinds = "TCGA_XX_0000_19990101", _image_kinds()["tif"][0]
    for number in (1, 2):
        _write(folder / "kaggle_3m" / case / f"{case}_{number}.tif", kinds[1])
        _write(folder / "kaggle_3m" / case / f"{case}_{number}_mask.tif", kinds[0])
    _write(folder / "kaggle_3m" / case / f"{case}_2.tif", content)
    return load_dataset("brain", folder, size=16, split="all", channels=rng.choice(("all", "flair")))


def _volume(ending: str, part: str, packed: Sequence[bytes]) -> Read:
    def read(folder: Path, content: bytes, rng: random.Random) -> Any:
        for where in ("imagesTr", "labelsTr"):
            _write(folder / where / "a.nii.gz", packed[0])
            _write(folder / where / "spoilt.nii.gz", packed[0])
        (folder / part / "spoilt.nii.gz").unlink()
        spoilt = _write(folder / part / f"spoilt{ending}", content)
        chance = rng.random()
        if chance < 0.15:
            return survey_dataset("nifti", folder)
        if chance < 0.4:
            return _read_single("nifti", spoilt, rng)
        return load_dataset(rng.choice(("nifti", "cardiac")), folder, split="all", size=rng.choice((16, None)))

    return read


def _hecktor(name: str, packed: Sequence[bytes]) -> Read:
    def read(folder: Path, content: bytes, rng: random.Random) -> Any:
        for case in ("a", "spoilt"):
            _write(folder / f"{case}_pt.nii.gz", packed[0])
            _write(folder / f"{case}_ct_gtvt.nii.gz", packed[0])
        if name.endswith(".csv") or rng.random() < 0.3:
            _write(folder / "spoilt_bbox.csv", _boxes())
        spoilt = _write(folder / name, content)
        if rng.random() < 0.3:
            return _read_single("hecktor", spoilt if name.endswith("pt.nii.gz") else folder / "spoilt_pt.nii.gz", rng)
        return load_dataset("hecktor", folder, split="all", size=rng.choice((16, None)), axis=rng.choice((0, 2)))

    return read


def _task_listing(packed: Sequence[bytes]) -> Read:
    def read(folder: Path, content: bytes, rng: random.Random) -> Any:
        for where in ("imagesTr", "labelsTr"):
            _write(folder / where / "a.nii.gz", packed[0])
        _write(folder / "dataset.json", content)
        return load_dataset("nifti", folder, split="all", size=16, labels=rng.choice((None, None, (1, 2))))

    return read


def _table(examples: _Examples) -> Read:
    def read(folder: Path, content: bytes, rng: random.Random) -> Any:
        for name in ("a", "b", "c"):
            _write(folder / f"{name}.png", examples.image)
            _write(folder / f"{name}_mask.png", examples.mask)
        table = _write(folder / "spoilt.csv", content)
        return survey_dataset("table", table) if rng.random() < 0.2 else load_dataset("table", table, split="all")

    return read


def _series(files: Sequence[bytes], packed: Sequence[bytes], predicts: _Examples | None = None) -> Read:
    """The spoilt file as a slice of a series, through the loader and the reader of single series, or `predict`."""

    def read(folder: Path, content: bytes, rng: random.Random) -> Any:
        for number, honest in enumerate(files):
            _write(folder / "images" / "series" / f"{number}.dcm", honest)
        chosen = max(range(len(files)), key=lambda k: _likeness(files[k], content))  # takes the place of its like
        (folder / "images" / "series" / f"{chosen}.dcm").unlink()
        _write(folder / "images" / "series" / "spoilt.dcm", content)
        _write(folder / "masks" / "series.nii.gz", packed[0])
        if predicts is not None:
            return _run_job(predicts, rng, folder / "images" / "series", folder / "out.nii.gz", "dicom")
        if rng.random() < 0.3:
            return _read_single("dicom", folder / "images" / "series", rng)
        return load_dataset("dicom", folder, split="all", size=16, align=False)

    return read


def _likeness(one: bytes, other: bytes) -> int:
    return sum(a == b for a, b in zip(one, other, strict=False))


# ---------------------------------------------------------------- what a training leaves


def _checkpoint(folder: Path, content: bytes, rng: random.Random) -> Any:
    return load_agent(_write(folder / "spoilt.safetensors", content), device="cpu")


def _run(examples: _Examples) -> Read:
    def read(folder: Path, content: bytes, rng: random.Random) -> Any:
        run_folder = folder / "spoilt"
        _write(run_folder / "config.json", content)
        _write(run_folder / "checkpoint.safetensors", examples.checkpoints[0])
        if rng.random() < 0.3:
            image = _write(folder / "x.png", examples.image)
            return _segment(rng, run_folder, image, folder / "out.png")
        run = open_run(run_folder)
        return run.task, run_size(run, "run"), run.load_agent(device="cpu")

    return read


def _result(folder: Path, content: bytes, rng: random.Random) -> Any:
    result = EvaluationResult.load(_write(folder / "spoilt.json", content))
    return result.to_json()


def _compare() -> Read:
    """The spoilt file as the log of one of two runs that `pixelseg compare` draws."""

    def read(folder: Path, content: bytes, rng: random.Random) -> Any:
        honest = _write(folder / "honest" / "progress.csv", _progress())
        spoilt = _write(folder / "spoilt" / "progress.csv", content)
        return compared_curves({"honest": honest, "spoilt": spoilt}, folder / "out.svg")

    return read


def _record(folder: Path, content: bytes, rng: random.Random) -> Any:
    from benchmarks.records import read_record, read_records

    path = _write(folder / "spoilt.json", content)
    return read_record(path) if rng.random() < 0.5 else read_records(folder)


def _config(ending: str) -> Read:
    def read(folder: Path, content: bytes, rng: random.Random) -> Any:
        path = _write(folder / f"spoilt{ending}", content)
        return with_config(["--config", str(path), "--updates", "2"])

    return read


def _predict(ending: str, examples: _Examples, dataset: str = "folder") -> Read:
    """The spoilt file through `pixelseg predict`, with an honest checkpoint."""

    def read(folder: Path, content: bytes, rng: random.Random) -> Any:
        spoilt = _write(folder / f"spoilt{ending}", content)
        out = folder / ("out.nii.gz" if dataset == "nifti" else "out.tif")
        if rng.random() < 0.1:
            checkpoint = _write(folder / "honest.safetensors", examples.checkpoints[0])
            size = rng.choice((("--native",), ("--size", "16")))
            words = ("--dataset", dataset, "--horizon", "1", "--device", "cpu")
            return _command("predict", checkpoint, spoilt, "-o", out, *size, *words)
        return _run_job(examples, rng, spoilt, out, dataset)

    return read


def _run_job(examples: _Examples, rng: random.Random, source: Path, out: Path, dataset: str) -> None:
    """What `pixelseg predict` does once it has read the checkpoint, which takes ten times as long."""
    predictor = FilePredictor(examples.agent, None if rng.random() < 0.5 else (16, 16), 1, dataset)
    with contextlib.redirect_stdout(io.StringIO()), _until_enough_is_segmented():
        run_job(predictor, Job(source, out))


class _EnoughError(Exception):
    """So much of a file was read and segmented that the rest, honest work of minutes, would show nothing more."""


@contextlib.contextmanager
def _until_enough_is_segmented() -> Iterator[None]:
    left, predict = ENOUGH, PixelAgent.predict

    def counted(agent: PixelAgent, observation: Any, *rest: Any, **named: Any) -> Any:
        nonlocal left
        left -= math.prod(observation.shape[-2:]) * (len(observation) if observation.ndim == 4 else 1)
        if left < 0:
            raise _EnoughError
        return predict(agent, observation, *rest, **named)

    with mock.patch.object(PixelAgent, "predict", counted), contextlib.suppress(_EnoughError):
        yield


def _predict_with(examples: _Examples) -> Read:
    """An honest image through `pixelseg predict`, with the spoilt checkpoint."""

    def read(folder: Path, content: bytes, rng: random.Random) -> Any:
        checkpoint, image = _write(folder / "spoilt.safetensors", content), _write(folder / "x.png", examples.image)
        return _segment(rng, checkpoint, image, folder / "out.png", size=16, horizon=1)

    return read


def _segment(rng: random.Random, run: Path, source: Path, out: Path, **options: Any) -> int:
    """`pixelseg predict`: now and then from the words of a command line, whose parsing takes most of the time."""
    if rng.random() < 0.1:
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return _command("predict", run, source, "-o", out, "--device", "cpu", *(w for w in words if w != "True"))
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return predict(PredictArguments(run, (source,), out, device="cpu", **options))
        except OSError as error:  # as the command line has it
            raise RefusedError(str(error)) from error


def _command(*words: Any) -> int:
    """Runs a command of `pixelseg`.

    Raises:
        RefusedError: it ended with code 2; the message is what it printed.
    """
    printed, code = io.StringIO(), 0
    silent = contextlib.redirect_stderr(printed), contextlib.redirect_stdout(io.StringIO())
    with silent[0], silent[1], _until_enough_is_segmented():
        code = main([str(word) for word in words])
    if code == 2:
        raise RefusedError(printed.getvalue())
    if code != 0:
        raise AssertionError(f"exit code {code}: {printed.getvalue()}")
    return code


def read_quietly(target: Target, content: bytes, rng: random.Random) -> Any:
    """Reads one content in a folder of its own; warnings are no findings."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return target.read(Path(folder), content, rng)


def message_of(error: PixelSegError, target: Target) -> str:
    """What is wrong with a refusal's message, or nothing: it names the file, and can be read."""
    text = str(error)
    if not any(name in text for name in target.names):
        return "its message does not name the file"
    most = 4100 if " problems:\n" in text else 2000  # twenty lines are still read
    return f"its message has {len(text)} characters" if len(text) > most else ""


Targets = Mapping[str, Target]
