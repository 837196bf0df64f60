"""The in-memory data set that every loader returns and every environment draws from."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.native import OWN_PIXELS, NativeMasks, VolumeFacts
from pixelseg_env.errors import DataError, OptionError, shown


@dataclass(frozen=True, eq=False)  # compared by identity: a comparison of arrays has no truth value
class SegmentationDataset:
    """Images, binary masks, and where each of them comes from.

    Its arrays are read-only views, so that environments may share it: a deep copy of it, as `gym.make`
    makes of its arguments, is the data set itself.

    Attributes:
        name: the data set's name, for messages and run folders.
        images: (N, C, H, W), uint8 in 0..255 or float32 in [0, 1]. uint8 is kept as it is and scaled
            by 1/255 when drawn, so that a data set costs no more memory than its files' pixels.
        masks: uint8 (N, H, W), 0 = background, 1 = object; or (N, L, H, W) with L > 1 labels, which may overlap.
        cases: N case (patient) names; slices of one patient share theirs.
        slices: int64 (N,), the slice's number within its case, as the source counts it.
        label_names: L names, for tables; "object" where there is one label.
        native: the masks as the files have them, where these have another size; None: `masks` are they.
        volumes: of images that are slices of volumes, case to what is to be known of its volume; else None.
        white: the grey level of the files that became 1, where they were scaled by one for all; else None.

    Raises:
        DataError: the arrays do not fit together, or hold values that they must not hold.
    """

    name: str
    images: NDArray[Any]
    masks: NDArray[np.uint8]
    cases: tuple[str, ...]
    slices: NDArray[np.int64]
    label_names: tuple[str, ...] = ()
    native: NativeMasks | None = None
    volumes: Mapping[str, VolumeFacts] | None = None
    white: float | None = None

    def __post_init__(self) -> None:
        for field in ("images", "masks"):
            if not isinstance(getattr(self, field), np.ndarray):
                raise DataError(
                    f"data set {self.name!r}: expected {field} as a NumPy array, got "
                    f"{type(getattr(self, field)).__name__}; SegmentationDataset.from_arrays takes other arrays"
                )
        if self.cases is None or self.slices is None:
            raise DataError(
                f"data set {self.name!r}: expected cases and slices, one each per image, got None; "
                "SegmentationDataset.from_arrays has defaults for them"
            )
        if isinstance(self.cases, str) or not isinstance(self.cases, Sequence | np.ndarray):
            raise DataError(f"data set {self.name!r}: expected a list of case names, got {shown(self.cases)}")
        object.__setattr__(self, "cases", tuple(self.cases))
        slices = np.asarray(self.slices)
        if slices.ndim != 1 or (slices.size and slices.dtype.kind not in "iu"):
            raise DataError(f"data set {self.name!r}: expected slices as whole numbers (N,), got {shown(self.slices)}")
        object.__setattr__(self, "slices", slices)
        count = len(self.images)
        if self.images.ndim != 4 or self.images.dtype not in (np.uint8, np.float32):
            raise DataError(
                f"data set {self.name!r}: expected images of shape (N, C, H, W) and type uint8 or float32, "
                f"got {self.images.shape} {self.images.dtype}"
            )
        several = self.masks.shape[1:2] if self.masks.ndim == 4 and self.masks.shape[1] > 1 else ()
        expected = (count, *several, *self.images.shape[2:])
        if self.masks.shape != expected or self.masks.dtype != np.uint8:
            raise DataError(
                f"data set {self.name!r}: expected uint8 masks of shape {expected}, or with L > 1 labels "
                f"{(count, 'L', *self.images.shape[2:])}, got {self.masks.shape} {self.masks.dtype}"
            )
        if len(self.cases) != count or len(self.slices) != count:
            raise DataError(
                f"data set {self.name!r}: {count} images but {len(self.cases)} case names "
                f"and {len(self.slices)} slice numbers"
            )
        if count == 0:
            raise DataError(f"data set {self.name!r} holds no image")
        if self.masks.max(initial=0) > 1:
            raise DataError(f"data set {self.name!r}: masks must hold 0 and 1 only, found {self.masks.max()}")
        if self.images.dtype == np.float32:
            low, high = float(self.images.min()), float(self.images.max())
            if not (low >= 0.0 and high <= 1.0):  # also false for NaN
                raise DataError(f"data set {self.name!r}: float images must lie in [0, 1], found {low:g} to {high:g}")
        if isinstance(self.label_names, str):
            raise DataError(f"data set {self.name!r}: expected a list of label names, got {shown(self.label_names)}")
        object.__setattr__(self, "label_names", tuple(self.label_names))
        if not self.label_names:
            names = tuple(f"label {k + 1}" for k in range(self.labels)) if self.labels > 1 else ("object",)
            object.__setattr__(self, "label_names", names)
        if len(self.label_names) != self.labels:
            raise DataError(f"data set {self.name!r}: {self.labels} labels but the names {self.label_names}")
        if self.native is not None and (len(self.native), self.native.labels) != (count, self.labels):
            raise DataError(
                f"data set {self.name!r}: {count} images of {self.labels} label(s), but {len(self.native)} native "
                f"masks of {self.native.labels}"
            )
        if self.volumes is not None and not set(self.cases) <= set(self.volumes):
            missing = sorted(set(self.cases) - set(self.volumes))[0]
            raise DataError(f"data set {self.name!r}: volumes tells nothing of case {missing!r}; expected all or None")
        for name in ("images", "masks", "slices"):
            view = np.asarray(getattr(self, name)).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    @classmethod
    def from_arrays(
        cls,
        images: Any,
        masks: Any,
        cases: Sequence[str] | None = None,
        slices: Sequence[int] | NDArray[Any] | None = None,
        name: str = "arrays",
        label_names: Sequence[str] = (),
        white: float | None = None,
    ) -> SegmentationDataset:
        """Makes a data set of arrays as they usually come.

        Args:
            images: (N, H, W), (N, C, H, W) or (N, H, W, C), where the masks tell which sides are H and W. Whole
                numbers from 0 to 255 are kept as uint8, uint16 is divided by the grey level `white`, floats must lie in
                [0, 1].
            masks: (N, H, W), or (N, L, H, W) with L labels; booleans, or 0 and one other number for the object.
            cases: N case (patient) names. Default: each image is a patient of its own. Images of one patient
                must share a name, or they leak between the splits.
            slices: N slice numbers. Default: counted within each case.
            name: the data set's name, for messages and run folders.
            label_names: L names, for tables.
            white: the grey level that becomes 1, such as 4095 for 12 bits, of numbers of any type. Default: as for
                files, see `load_folder`: of uint16 65535, or the smallest of 1023, 4095 and 16383 that no pixel is
                brighter than, which a warning says.

        Returns:
            The data set; its images are uint8 or float32 (N, C, H, W).

        Raises:
            OptionError: `white` is not valid.
            DataError: the arrays do not fit together, or hold values that cannot be read so.

        Warns:
            DimImagesWarning: uint16 was taken for fewer bits, or the images are all but black.
        """
        from pixelseg_env.datasets.conversion import as_images, as_masks, running_numbers

        truth = as_masks(name, masks)
        pixels, level = as_images(name, images, truth.shape[-2:], white)
        width = len(str(max(len(pixels) - 1, 0)))
        owners = tuple(str(k).zfill(width) for k in range(len(pixels))) if cases is None else tuple(map(str, cases))
        if cases is not None and any(case is None for case in cases):
            raise DataError(f"data set {name!r}: a case is None; expected the name of a patient for each image")
        try:
            numbers = running_numbers(owners) if slices is None else np.asarray(slices, np.int64)
        except OverflowError as error:
            raise DataError(f"data set {name!r}: slice numbers must fit 64 bits ({error}); count them anew") from error
        return cls(name, pixels, truth, owners, numbers, tuple(label_names), white=level)

    def __copy__(self) -> SegmentationDataset:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> SegmentationDataset:
        return self

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def labels(self) -> int:
        """L, the number of labels."""
        return int(self.masks.shape[1]) if self.masks.ndim == 4 else 1

    @property
    def map_shape(self) -> tuple[int, ...]:
        """(H, W), or (L, H, W) with L > 1 labels."""
        return tuple(self.masks.shape[1:])

    def label(self, number: int) -> SegmentationDataset:
        """Returns the data set of one of its labels alone, masks (N, H, W); the images are shared."""
        masks = self.masks[:, number] if self.labels > 1 else self.masks
        native = None if self.native is None else self.native.label(number)
        return replace(self, masks=masks, label_names=(self.label_names[number],), native=native)

    @property
    def class_ratio(self) -> float:
        """Background pixels per foreground pixel over the whole set and all labels (infinite without foreground)."""
        foreground = int(np.count_nonzero(self.masks))
        return (self.masks.size - foreground) / foreground if foreground else float("inf")

    @property
    def class_ratios(self) -> tuple[float, ...]:
        """`class_ratio` of each label."""
        return tuple(self.label(k).class_ratio for k in range(self.labels))

    def batch(self, indices: Sequence[int] | NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Draws images and masks.

        Args:
            indices: B positions in the data set.

        Returns:
            New arrays: images float32 (B, C, H, W) in [0, 1], masks uint8 (B, [L,] H, W).
        """
        index = np.asarray(indices, dtype=np.int64)
        images = self.images[index]
        if images.dtype == np.uint8:
            images = images.astype(np.float32) / np.float32(255)
        return images, self.masks[index]

    def subset(self, indices: Sequence[int] | NDArray[Any]) -> SegmentationDataset:
        """Returns the items at `indices` as a data set of its own (the pixels are copied)."""
        index = np.asarray(indices, dtype=np.int64)
        return SegmentationDataset(
            self.name,
            self.images[index],
            self.masks[index],
            tuple(self.cases[i] for i in index),
            self.slices[index],
            self.label_names,
            # Positions from the end, too, are allowed here.
            None if self.native is None else self.native.subset(np.arange(len(self))[index]),
            self.volumes,
            self.white,
        )

    @property
    def native_pixels(self) -> str:
        """What `native_mask` has the pixels of, for reports: the files, or what was cut out of them."""
        facts = self.volumes or {}
        places = {facts[case].pixels if facts else OWN_PIXELS for case in set(self.cases)}
        return " and ".join(sorted(places))

    def native_mask(self, index: int) -> NDArray[np.uint8]:
        """The mask of an image on its file's own pixels, uint8 ([L,] H, W); that of `masks` where it is the same."""
        return self.masks[index] if self.native is None else self.native.mask(index)

    def to_native(self, index: int, maps: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Brings maps uint8 (..., H, W), decided on an image, to its file's own pixels, as `predict` does."""
        return maps if self.native is None else self.native.restore(index, maps)

    @property
    def native_sizes(self) -> tuple[tuple[int, int], ...]:
        """The sizes (H, W) of the files' images, each once, in order."""
        return (self.image_shape[1:],) if self.native is None else tuple(sorted(set(self.native.sizes)))

    def check_index(self, index: int) -> int:
        """Returns `index` if it names an item.

        Raises:
            OptionError: it does not.
        """
        try:
            value = -1 if isinstance(index, bool) else operator.index(index)
        except TypeError:
            value = -1
        if not 0 <= value < len(self):
            raise OptionError(
                f"index={shown(index)}: expected a whole number from 0 to {len(self) - 1}, for data set {self.name!r} "
                f"has {len(self)} images"
            )
        return value
