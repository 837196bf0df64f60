"""How `predict` reads an image file of one page or several, and writes masks onto the file's own pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelseg_env.datasets.files import FileImages, ImageReader, Masks, Values, named
from pixelseg_env.datasets.fitting import fit_image
from pixelseg_env.datasets.mask_files import encode_masks, encode_tiff


@dataclass(frozen=True)
class PageReader(ImageReader):
    """Reads files of which `pixels` gives a list of pages, upright; masks are stacks of as many.

    A mask lies on the file's pixels as they are stored, and notes the same orientation as the file, so that viewers
    turn both alike.
    """

    def read(
        self, path: Path, size: tuple[int, int] | None, fit: str, planes: int, options: Mapping[str, Any]
    ) -> FileImages:
        """See `FileReader.read`."""
        from pixelseg_env.datasets.image_files import open_image

        if self.pixels is None:
            raise NotImplementedError("PageReader needs pixels=, a function")
        pages = self.pixels(path, planes, **named(self.pixels, options))
        native = pages[0].shape[0], pages[0].shape[1]
        images = np.stack([fit_image(page, size or native, fit) for page in pages])
        orientation = open_image(path).orientation

        def encode(masks: Masks, name: str) -> bytes:
            return encode_masks(masks, name, orientation)

        def encode_values(values: Values, name: str) -> bytes:
            return encode_tiff(values, orientation)

        return FileImages(np.ascontiguousarray(images), native, fit, encode, encode_values)
