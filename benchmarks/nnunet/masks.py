"""Masks that were predicted elsewhere, with the face of an agent."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pixelseg_env import OptionError, SegmentationDataset, to_numpy


class PredictedMasks:
    """Knows the mask of every image that it was told of, and decides by it at its first look.

    Images are recognised by their pixels, so that it can be judged by whatever plays them, in any order.
    """

    name: ClassVar[str] = "nnU-Net (real)"
    family: ClassVar[str] = "supervised"
    supervised: ClassVar[bool] = True
    looks_once: ClassVar[bool] = True

    def __init__(self) -> None:
        self._masks: dict[bytes, NDArray[np.int8]] = {}

    def add(self, dataset: SegmentationDataset, masks: NDArray[np.uint8]) -> None:
        """Tells it of images.

        Args:
            dataset: N images.
            masks: of the shape of its masks.
        """
        if masks.shape != dataset.masks.shape:
            raise OptionError(f"masks of shape {masks.shape}; expected {dataset.masks.shape}, as the data set's")
        for k, mask in enumerate(masks):
            image, _ = dataset.batch([k])
            self._masks[image[0].tobytes()] = mask.astype(np.int8)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.int8], Any]:
        """Returns the masks of whole images (B, C, H, W), int8 (B, [L,] H, W), and the state as it came.

        Raises:
            OptionError: an image is not one of those that it was told of.
        """
        try:
            return np.stack([self._masks[image.tobytes()] for image in to_numpy(observation)]), state
        except KeyError as error:
            raise OptionError(
                "an image whose mask was not predicted; expected the first look at the images that were handed over"
            ) from error
