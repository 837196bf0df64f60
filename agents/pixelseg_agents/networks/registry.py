"""The segmentation networks that names stand for. A new one adds a line to `NETWORKS`; yours: `register_network`."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from torch import nn

from pixelseg_agents.networks.base import SegmentationNetwork
from pixelseg_env import OptionError, is_plugin, resolve

# A class, or where it is: those of a library that not everyone has are imported when they are asked for.
NETWORKS: dict[str, Any] = {
    "unet": "pixelseg_agents.networks.unet:UNet",
    "unet-31m": "pixelseg_agents.networks.unet:UNet31M",
    "fcn8s": "pixelseg_agents.networks.fcn:FCN8s",
    "attention-unet": "pixelseg_agents.networks.attention_unet:AttentionUNet",
    "resunet++": "pixelseg_agents.networks.resunetpp:ResUNetPlusPlus",
    "unet++": "pixelseg_agents.networks.unetpp:UNetPlusPlus",
    "unet3+": "pixelseg_agents.networks.unet3p:UNet3Plus",
    "nnunet": "pixelseg_agents.networks.nnunet:NNUNet",
    "swin-unet": "pixelseg_agents.networks.swin_unet:SwinUNet",
    "transunet": "pixelseg_agents.networks.transunet:TransUNet",
}
EXTRA = ("monai", "einops")  # libraries of the extra `networks`
METHODS = ("decode", "outputs")
FACTS = ("label", "source", "published", "multiple", "smallest", "output_weights")


def register_network(name: str, network: Any, *, overwrite: bool = False) -> None:
    """Makes `--network name` and `network_class(name)` work.

    Args:
        name: the new name.
        network: a class that keeps `SegmentationNetwork`'s contract.
        overwrite: allow an existing name to be replaced.

    Raises:
        OptionError: the name is taken or is not a name, or the class lacks something.
    """
    if not isinstance(name, str) or not name or ":" in name:
        raise OptionError(f"a network's name must be a non-empty string without a colon, got {name!r}")
    if name in NETWORKS and not overwrite:
        raise OptionError(f"network {name!r} is registered already; choose another name or pass overwrite=True")
    NETWORKS[name] = _checked(name, network)


def registered_networks() -> tuple[str, ...]:
    """The names that `network_class` knows, ours in the order of the publication's tables."""
    return tuple(NETWORKS)


def network_class(name: str) -> type[SegmentationNetwork]:
    """Returns the class of a registered name, or of `module:name`.

    Raises:
        OptionError: the name is not known (the message gives the nearest), a library is missing, or the class cannot be
            loaded or lacks something.
    """
    found = resolve("network", name, NETWORKS)
    if is_plugin(found):
        try:
            found = resolve("network", found, {})
        except OptionError as error:
            _explain(name, error.__cause__)
            raise
    return _checked(name, found)


def known_already(name: str | None) -> bool:
    """Whether nothing has to be imported that only `name` names: it is none, or no plug-in, or its module is there."""
    return not is_plugin(name) or str(name).partition(":")[0] in sys.modules


def build_network(
    name: str, channels: int, width: float = 1.0, *, norm: str = "group", labels: int = 1
) -> SegmentationNetwork:
    """Makes a network.

    Args:
        name: a registered name, or `module:name`.
        channels: C of the observation.
        width: scales its channels; 1 is the size of its authors.
        norm: `"group"` or `"none"`.
        labels: L of its own heads; 0: none.

    Raises:
        OptionError: as `network_class`; or what was made has no `features` or `labels`.
    """
    kind = network_class(name)
    try:
        network = kind(channels, width, norm=norm, labels=labels)
    except ImportError as error:
        _explain(name, error)
        raise
    for attribute in ("features", "labels"):
        if not isinstance(getattr(network, attribute, None), int):
            raise OptionError(f"network {name!r}: its __init__ has to set `{attribute}`, a whole number")
    return network


def _explain(name: str, error: BaseException | None) -> None:
    """Says what to install, if that is what is wrong."""
    missing = (getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and missing in EXTRA:
        message = f'network={name!r} needs {missing}, which is not installed: pip install "pixelseg-agents[networks]"'
        raise OptionError(message) from error


def _checked(name: str, network: Any) -> type[SegmentationNetwork]:
    """The class, if it keeps the contract as far as a class can tell."""
    if not isinstance(network, type) or not issubclass(network, nn.Module):
        shown = network.__name__ if isinstance(network, type) else type(network).__name__
        raise OptionError(
            f"network {name!r}: expected a torch.nn.Module that keeps SegmentationNetwork's contract, got {shown}"
        )
    lacks = [fact for fact in FACTS if not hasattr(network, fact)]
    for method in METHODS:
        if getattr(network, method, None) in (None, getattr(SegmentationNetwork, method)):
            lacks.append(f"{method}()")
    if lacks:
        raise OptionError(
            f"network {name!r}: {network.__name__} lacks {', '.join(lacks)}; subclass SegmentationNetwork, whose "
            "docstring says what each is"
        )
    try:
        inspect.signature(network).bind(3, 1.0, norm="group", labels=1)
    except TypeError as error:
        raise OptionError(
            f"network {name!r}: {network.__name__} has to take (channels, width, *, norm, labels); {error}"
        ) from error
    return network  # type: ignore[return-value]  # as far as can be told
