"""An agent with all steps of its episode as one ONNX file: images in, masks out, without PyTorch and without us.

One step (look, decide, change the map) is traced, and a loop of ONNX repeats it: the file holds the parameters once,
whatever the horizon, and ends early where a step has changed nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelseg_agents.evaluation import sees_time, segment
from pixelseg_agents.files import check_target, reason, write_atomically
from pixelseg_env import OptionError, PixelSegError, __version__, check_horizon, dynamics
from pixelseg_env.datasets import check_size

ANTIALIASED = "aten::_upsample_bilinear2d_aa"  # an operator that the exporter does not know
OPSET = 18  # the first with resizing as TransUNet's positions need it
SUFFIX = ".onnx"
IMAGE, MASK = "image", "mask"  # the input and the output
IMAGE_START = "image"  # first maps, see `PixelSegEnv`
TRACED = (2, 107, 75)  # images, height, width: no multiple of anything, so that every padding is in the graph
CHECKED = ((1, 37, 53), (3, 101, 70))  # what a file for any size is tried with, besides the size trained on
UNDECIDED = 1e-3  # share of pixels that may differ: their logits are 0 to the last digit, and round-off decides
LARGEST = 2**31 - 1  # bytes of a file, of which protobuf can hold no more
INSTALL = 'pip install "pixelseg-agents[onnx]"'


class ExportError(PixelSegError):
    """An agent that cannot be written as ONNX, or whose file does not do what the agent does."""


NEEDED = ("predict", "transition", "observation", "label_names", "image_channels", "device")  # of an agent
# What a network of anybody's, and the exporter, may raise.
TRACING_ERRORS = (ExportError, RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError)


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        size: (H, W) that images must have; None: any.
        why: the reason where the size is not free, else empty.
        compared: pixels of masks that were compared with the agent's.
        differing: how many of them were not the same.
    """

    path: Path
    size: tuple[int, int] | None
    why: str
    compared: int
    differing: int


@dataclass(frozen=True)
class _Written:
    """The content of a file, as `Exported` describes it."""

    content: bytes
    size: tuple[int, int] | None
    compared: int
    differing: int


def export_onnx(
    agent: Any,
    path: str | Path,
    horizon: int,
    *,
    size: int | tuple[int, int] | None = None,
    start: Any = None,
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Exported:
    """Writes an agent and the steps of its episode as one ONNX file, and makes sure that it gives the agent's masks.

    The input `image` is float32 (B, C, H, W) in [0, 1], of any B, H and W; the output `mask` is uint8 (B, H, W) of 0
    and 1, or (B, L, H, W) with L > 1 labels: f(horizon) of the most probable decisions. A network that cannot be
    written for any size is written for `size`. What the file holds and expects stands in its metadata.

    Args:
        agent: any agent on the CPU with a network in PyTorch and what `PixelAgent` has.
        path: the file, of the ending .onnx.
        horizon: steps of an episode.
        size: (H, W), or a side, that it was trained on.
        start: with the transition "additive", the supervised agent whose probabilities are the first maps; "image", see
            `PixelSegEnv`; None: 1 everywhere.
        metadata: what else is to be noted in the file, values that JSON can hold.
        overwrite: whether a file may be replaced.

    Returns:
        What was written, and how it was checked.

    Raises:
        ExportError: a library is missing; the agent has nothing to export, or cannot be exported; the file gave
            other masks than the agent (nothing is written then).
        OptionError: the path exists or has another ending, or another argument is not valid.
    """
    goal, steps, trained = Path(path), check_horizon(horizon), check_size(size)
    check_target(goal, (SUFFIX,), overwrite)
    _check_agent(agent, start)
    if start == IMAGE_START:
        start = _ImageStart(len(agent.label_names))
    _libraries()
    written, why = _written(agent, start, steps, trained, dict(metadata or {}))
    try:
        write_atomically(goal, written.content)
    except OSError as error:
        raise OptionError(f"{goal}: cannot be written ({error.strerror}); choose another file") from error
    return Exported(goal, written.size, why, written.compared, written.differing)


def _check_agent(agent: Any, start: Any) -> None:
    name = getattr(agent, "name", type(agent).__name__)
    if not isinstance(getattr(agent, "network", None), nn.Module):
        raise ExportError(f"{name}: has no network in PyTorch (attribute `network`), so there is nothing to export")
    if lacks := [part for part in NEEDED if not hasattr(agent, part)]:
        raise ExportError(f"{name}: lacks {', '.join(lacks)}, which PixelAgent has")
    if torch.device(agent.device).type != "cpu":  # others round otherwise, so that masks could not be compared
        raise ExportError(f'{name}: is on {agent.device}; export what load(..., device="cpu") gives')
    if agent.transition not in dynamics.TRANSITIONS | dynamics.GRADED:
        raise ExportError(f"{name}: its transition {agent.transition!r} is not one of the environment's")
    if not getattr(agent, "repeats", False):
        raise ExportError(f"{name}: does not say that it decides the same when it sees the same (`repeats`)")
    if start == IMAGE_START:
        if agent.transition != "absorbing":
            raise OptionError(f"start={start!r}: expected transition='absorbing', not {agent.transition!r}")
        return
    if start is not None and agent.transition not in dynamics.GRADED:
        raise OptionError(f"start: first maps need transition='additive', not {agent.transition!r}")
    if start is not None and not hasattr(start, "probability_map"):
        raise OptionError(f"start: expected a supervised agent, got {getattr(start, 'name', type(start).__name__)}")


def _libraries() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401  # a file that nobody has tried is worth little
    except ImportError as error:
        raise ExportError(f"export needs onnx and onnxruntime ({error}): {INSTALL}") from error


def _written(agent: Any, start: Any, horizon: int, trained: Any, more: dict[str, Any]) -> tuple[_Written, str]:
    """The file for any size, or else for the size trained on, and why."""
    why = "its network does other things at other sizes than the one it is traced at"
    if all(getattr(part, "traces_any_size", True) for one in _networks(agent, start) for part in one.modules()):
        try:
            return _checked(agent, start, horizon, trained, None, more), ""
        except TRACING_ERRORS as error:
            why = reason(error, 160)
    if trained is None:
        raise ExportError(
            f"{agent.name}: cannot be written for images of any size ({why}); give the one size that it is to have"
        )
    try:
        return _checked(agent, start, horizon, trained, trained, more), why
    except TRACING_ERRORS as error:
        raise ExportError(f"{agent.name}: cannot be written as ONNX ({reason(error)})") from error


def _networks(agent: Any, start: Any) -> list[nn.Module]:
    return [one.network for one in (agent, start) if getattr(one, "network", None) is not None]


# ---------------------------------------------------------------- what is traced


@dataclass(frozen=True)
class _ImageStart:
    """First maps where an image has an intensity, with the face of an agent whose maps they are."""

    labels: int
    name = IMAGE_START
    told = "1 where the image is not 0"
    probability = IMAGE_START  # as the environment takes it
    network = None

    def probability_map(self, image: Tensor) -> Tensor:
        maps: Tensor = dynamics.with_intensity(image, self.labels)
        return maps


class _Begin(nn.Module):
    """f(0) of images."""

    def __init__(self, agent: Any, start: Any) -> None:
        super().__init__()
        self.agent, self.start = agent, start
        self.network = None if start is None else start.network

    def forward(self, image: Tensor) -> Tensor:
        if self.start is not None:
            found: Tensor = self.start.probability_map(image)
            return found
        batch, _, height, width = image.shape
        names = self.agent.label_names
        kind = torch.float32 if self.agent.transition in dynamics.GRADED else torch.uint8
        return torch.ones((batch, *((len(names),) if len(names) > 1 else ()), height, width), dtype=kind)


class _Step(nn.Module):
    """f(t) of images and f(t - 1), by the agent's decision and the environment's own rules.

    In a `loop`, also whether they differ.
    """

    def __init__(self, agent: Any, loop: bool) -> None:
        super().__init__()
        self.agent, self.loop = agent, loop
        self.network = agent.network  # whose parameters are to be found
        self.move = (dynamics.TRANSITIONS | dynamics.GRADED)[agent.transition]

    def forward(self, image: Tensor, before: Tensor, left: Tensor | None = None) -> tuple[Tensor, ...]:
        seen = dynamics.observe(image, before, self.agent.observation, left)
        action, _ = self.agent.predict(seen)
        after = self.move(before, action.to(torch.uint8))
        return (after, (after.float() != before.float()).any()) if self.loop else (after,)


class _End(nn.Module):
    """The masks that f(horizon) stands for."""

    def forward(self, last: Tensor) -> Tensor:
        masks: Tensor = dynamics.decided(last)
        return masks


def _traced(module: nn.Module, arguments: Mapping[str, Any], outputs: tuple[str, ...], maps: int, free: bool) -> Any:
    """The ONNX graph of a module, a `ModelProto`, whose images and maps have any batch and, if `free`, any size."""
    import onnx

    sides = {"batch": 0, "height": -2, "width": -1} if free else {"batch": 0}
    ranks = {IMAGE: 4, "before": maps, "last": maps}
    axes = {name: {where % ranks[name]: side for side, where in sides.items()} for name in arguments if name in ranks}
    buffer = io.BytesIO()
    # The exporter by tracing. That by torch.export (dynamo=True; tried with torch 2.13) takes 12 to 95 seconds for what
    # takes this one 1, cannot convert PA3C's network, and binds some others to the batch that they were shown.
    torch.onnx.export(
        module,
        tuple(arguments.values()),
        buffer,  # type: ignore[arg-type]
        dynamo=False,
        opset_version=OPSET,
        input_names=list(arguments),
        output_names=list(outputs),
        dynamic_axes=axes,
    )
    return onnx.load_from_string(buffer.getvalue())


@contextlib.contextmanager
def _tracing() -> Iterator[None]:
    """What tracing needs: no advice for authors of exporters, no fused layers, and one operator more."""
    # Where an operator is not known, torch prints the whole graph, and cannot be told not to.
    log = mock.patch.object(torch._C, "_jit_onnx_log", return_value=None, create=True)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    torch.onnx.register_custom_op_symbolic(ANTIALIASED, _antialiased, OPSET)  # type: ignore[attr-defined]
    try:
        with warnings.catch_warnings(), torch.no_grad(), log:
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.onnx.unregister_custom_op_symbolic(ANTIALIASED, OPSET)  # type: ignore[attr-defined]
        torch.backends.mha.set_fastpath_enabled(fast)


def _antialiased(g: Any, maps: Any, size: Any, align_corners: Any, *scales: Any) -> Any:
    """`F.interpolate(..., mode="bilinear", antialias=True)`, of which the exporter does not know."""
    from torch.onnx import symbolic_helper

    def constant(value: Tensor) -> Any:
        return g.op("Constant", value_t=value)

    if symbolic_helper._is_packed_list(size):
        axis = constant(torch.tensor([0]))
        sides = [g.op("Unsqueeze", side, axis) for side in symbolic_helper._unpack_list(size)]
        size = g.op("Concat", *sides, axis_i=0)
    lead = g.op("Slice", g.op("Shape", maps), constant(torch.tensor([0])), constant(torch.tensor([2])))
    none = constant(torch.tensor([], dtype=torch.float32))
    sizes = g.op("Concat", lead, size, axis_i=0)
    return g.op(
        "Resize",
        *(maps, none, none, sizes),
        mode_s="linear",
        antialias_i=1,
        coordinate_transformation_mode_s="half_pixel",
    )


# ---------------------------------------------------------------- what is put together


def _model(agent: Any, start: Any, horizon: int, fixed: tuple[int, int] | None) -> Any:
    """The whole episode, a `ModelProto` without metadata, for images of any size or of one."""
    from onnx import TensorProto, compose, helper

    count, *size = TRACED if fixed is None else (TRACED[0], *fixed)
    free, names = fixed is None, tuple(agent.label_names)
    image = torch.rand((count, int(agent.image_channels), *size), generator=torch.Generator().manual_seed(0))
    image = image.to(agent.device)
    maps = 3 + (len(names) > 1)
    with _tracing():
        first = _Begin(agent, start)(image).to(agent.device)
        begin = _traced(_Begin(agent, start), {IMAGE: image}, ("first",), maps, free).graph
        shown: dict[str, Any] = {IMAGE: image, "before": first}
        if sees_time(agent):
            shown["left"] = torch.tensor(horizon, device=agent.device)
        loop = horizon > 1
        whole = _traced(_Step(agent, loop), shown, ("after", "changed")[: 1 + loop], maps, free)
        graded = agent.transition in dynamics.GRADED
        end = _traced(_End(), {"last": first}, (MASK,), maps, free).graph if graded else None
    step = whole.graph
    for graph, prefix in ((begin, "begin/"), (end, "end/")):
        if graph is not None:
            compose.add_prefix_graph(graph, prefix, rename_inputs=False, rename_outputs=False, inplace=True)
    kind = TensorProto.FLOAT if graded else TensorProto.UINT8
    shape = ["batch", *((len(names),) if len(names) > 1 else ()), *(("height", "width") if free else size)]
    last = "last" if graded else MASK
    constants = [
        helper.make_tensor("horizon", TensorProto.INT64, [], [horizon]),
        helper.make_tensor("true", TensorProto.BOOL, [], [True]),
    ]
    if loop:
        body = _body(step, kind, shape, sees_time(agent))
        steps = [helper.make_node("Loop", ["horizon", "true", "first"], [last], name="steps", body=body)]
    else:  # as everybody's networks are, for runtimes without loops
        names_of = {"before": "first", "left": "horizon", "after": last}
        steps = list(step.node)
        for node in steps:
            for side in (node.input, node.output):
                side[:] = [names_of.get(one, one) for one in side]
        constants = [*(constants[:1] if sees_time(agent) else ()), *step.initializer]
    tail = [] if end is None else list(end.node)
    graph = helper.make_graph(
        [*begin.node, *steps, *tail],
        "episode",
        [helper.make_tensor_value_info(IMAGE, TensorProto.FLOAT, ["batch", image.shape[1], *shape[-2:]])],
        [helper.make_tensor_value_info(MASK, TensorProto.UINT8, shape)],
        [*begin.initializer, *constants, *(() if end is None else end.initializer)],
    )
    # Not the newest version of the format, which older runtimes refuse.
    return helper.make_model(graph, opset_imports=list(whole.opset_import), ir_version=whole.ir_version)


def _body(step: Any, kind: int, shape: list[Any], timed: bool) -> Any:
    """The graph of one step as a loop wants it: number and condition come first, the condition goes out first."""
    from onnx import TensorProto, helper

    nodes = list(step.node)
    if timed:
        nodes.insert(0, helper.make_node("Sub", ["horizon", "number"], ["left"]))
    # Who has changed nothing sees the same again, and decides the same; unless the time is to be seen.
    going_on = "going" if timed else "changed"
    nodes.append(helper.make_node("Identity", [going_on], ["on"]))
    return helper.make_graph(
        nodes,
        "step",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", kind, shape),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", kind, shape),
        ],
        list(step.initializer),
    )


def _described(agent: Any, start: Any, horizon: int, trained: Any, fixed: Any, more: dict[str, Any]) -> dict[str, Any]:
    """What the file says of itself, by keys."""
    names = list(agent.label_names)
    channels = int(agent.image_channels)
    size = "any" if fixed is None else f"{fixed[0]}x{fixed[1]}"
    network = getattr(getattr(agent, "config", None), "network", None)
    return {
        "pixelseg": "an agent that segments images pixel by pixel, with all steps of its episode",
        "agent": str(agent.name),
        "network": network or f"{type(agent.network).__name__}, the agent's own",
        "transition": agent.transition,
        "observation": agent.observation,
        "observe_time": sees_time(agent),
        "horizon": horizon,
        "first_maps": "1 everywhere" if start is None else getattr(start, "told", f"probabilities of {start.name}"),
        "label_names": names,
        "channels": channels,
        "size": size,
        "trained_size": None if trained is None else f"{trained[0]}x{trained[1]}",
        "input": f"{IMAGE}: float32 (B, {channels}, H, W) in [0, 1]",
        "output": f"{MASK}: uint8 (B, {'L, ' if len(names) > 1 else ''}H, W), 1 where the object is",
        "versions": {"pixelseg-agents": __version__, "torch": torch.__version__},
    } | more


# ---------------------------------------------------------------- and tried


def _checked(agent: Any, start: Any, horizon: int, trained: Any, fixed: Any, more: dict[str, Any]) -> _Written:
    """The content of a file that gives the agent's masks.

    Raises:
        ExportError: the masks are others, or it is too large.
        RuntimeError and others: what tracing and running raise.
    """
    from onnx import helper

    model = _model(agent, start, horizon, fixed)
    facts = _described(agent, start, horizon, trained, fixed, more)
    helper.set_model_props(model, {key: v if isinstance(v, str) else json.dumps(v) for key, v in facts.items()})
    model.producer_name, model.producer_version = "pixelseg-agents", __version__
    if model.ByteSize() > LARGEST:
        raise ExportError(f"{agent.name}: has {model.ByteSize() / 2**30:.1f} GiB of parameters; ONNX files hold 2")
    content: bytes = model.SerializeToString()
    run = _runner(content)
    compared = differing = 0
    for number, shape in enumerate(((2, *(trained or (48, 64))), *(CHECKED if fixed is None else ()))):
        images = _pictures(shape, int(agent.image_channels), number)
        wanted, found = _played(agent, start, horizon, images), run(images)
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            raise ExportError(
                f"the file gives masks {found.dtype} {found.shape}, the agent {wanted.dtype} {wanted.shape}"
            )
        wrong = int(np.count_nonzero(found != wanted))
        if wrong > UNDECIDED * wanted.size:
            at = "x".join(map(str, shape[1:]))
            if not _round_off(agent, start, horizon, fixed, images, wanted, wrong):
                raise ExportError(
                    f"the file gives other masks than the agent: {wrong} of {wanted.size} pixels of images of {at}"
                )
        compared, differing = compared + wanted.size, differing + wrong
    return _Written(content, fixed, compared, differing)


def _round_off(
    agent: Any,
    start: Any,
    horizon: int,
    fixed: Any,
    images: NDArray[np.float32],
    wanted: NDArray[np.uint8],
    wrong: int,
) -> bool:
    """Whether `wrong` pixels may differ by round-off alone.

    One undecided pixel leads to others at the next steps, and in an agent that has learnt little to thousands. So the
    agent's own masks have to change as much where images change by the last digit, and those of its first step may not
    differ by much.
    """
    nudged = (np.float32(1 + times * 2**-22) * images for times in (1, -1, 2, -2, 4, -4))
    own = max(np.count_nonzero(_played(agent, start, horizon, one) != wanted) for one in nudged)
    if wrong > 4 * own:
        return False
    first = _runner(_model(agent, start, 1, fixed).SerializeToString())(images)
    return bool(np.count_nonzero(first != _played(agent, start, 1, images)) <= 10 * UNDECIDED * first.size)


def _played(agent: Any, start: Any, horizon: int, images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """What `predict` would make of images."""
    return segment(agent, np.minimum(images, 1), horizon, len(images), None if start is None else start.probability)


def _runner(content: bytes) -> Any:
    """What runs a file on images, in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what goes wrong is raised
    session: Any = None

    def run(images: NDArray[np.float32]) -> NDArray[Any]:
        nonlocal session
        try:
            session = session or onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            return np.asarray(session.run([MASK], {IMAGE: images})[0])
        except Exception as error:  # onnxruntime has a class of its own for each, none of them public
            raise ExportError(f"onnxruntime cannot run the file: {reason(error, 200)}") from error

    return run


def _pictures(shape: tuple[int, int, int], channels: int, seed: int) -> NDArray[np.float32]:
    """Smooth random pictures with some noise, float32 (B, C, H, W) in [0, 1], of (B, H, W)."""
    draws = torch.Generator().manual_seed(seed)
    coarse = torch.rand((shape[0], channels, 5, 5), generator=draws)
    smooth = F.interpolate(coarse, shape[1:], mode="bilinear", align_corners=False)
    noise = torch.rand(smooth.shape, generator=draws)
    return np.asarray((0.85 * smooth + 0.15 * noise).numpy(), np.float32)
