"""Image and mask sets: a generated one, file layouts, and a door for third parties.

A data set of your own is one file and one line like those below. Loaders and readers are named as `module:name` and
imported on first use: NIfTI, DICOM and image libraries are loaded by those who need them only.
"""

from pixelseg_env.datasets.base import SegmentationDataset
from pixelseg_env.datasets.brightness import DimImagesWarning, WhiteIsZeroWarning
from pixelseg_env.datasets.files import FileImages, FileReader, ImageReader
from pixelseg_env.datasets.fitting import Size, SizesDifferError, check_size, fit_image, fit_masks
from pixelseg_env.datasets.left_out import LeftOutWarning
from pixelseg_env.datasets.memory import LargeDatasetWarning
from pixelseg_env.datasets.naming import UnclearPatientsWarning
from pixelseg_env.datasets.native import OWN_PIXELS, NativeMasks, VolumeFacts
from pixelseg_env.datasets.pairs import Pair
from pixelseg_env.datasets.registry import file_reader, load_dataset, own_options, register_dataset, registered_datasets
from pixelseg_env.datasets.splits import split_indices
from pixelseg_env.datasets.survey import FileFacts, Part, Survey, guess_dataset, survey_dataset
from pixelseg_env.datasets.transparency import TransparencyWarning

_HERE = "pixelseg_env.datasets"


def _add(
    name: str, module: str, loader: str, files: bool | tuple[str, ...] = True, share: bool = False, listed: bool = True
) -> None:
    """Registers a built-in set, whose module also has `READER` and, if its files are to be looked at, `list_files`."""
    register_dataset(
        name,
        f"{module}:{loader}",
        overwrite=True,  # reloading this package in a notebook is not a name clash
        files=files,
        share=share,
        reader=f"{module}:READER",
        lister=f"{module}:list_files" if files and listed else None,
    )


_add("phantom", f"{_HERE}.phantom", "load_phantom", files=False, share=True)
_add("folder", f"{_HERE}.folder", "load_folder", share=True)
_add("table", f"{_HERE}.table", "load_table", files=(".csv", ".tsv"))  # not shared: its files may lie anywhere
_add("brain", f"{_HERE}.brain", "load_brain", share=True)
_add("nifti", f"{_HERE}.nifti", "load_nifti", share=True)
_add("cardiac", f"{_HERE}.nifti", "load_cardiac", share=True)
# Not shared: its boxes may lie beside its folder. Not listed: its labels lie on the grid of another image.
_add("hecktor", f"{_HERE}.hecktor", "load_hecktor", listed=False)
_add("dicom", f"{_HERE}.dicom", "load_dicom", share=True)

__all__ = [
    "OWN_PIXELS",
    "DimImagesWarning",
    "FileFacts",
    "FileImages",
    "FileReader",
    "ImageReader",
    "LargeDatasetWarning",
    "LeftOutWarning",
    "NativeMasks",
    "Pair",
    "Part",
    "SegmentationDataset",
    "Size",
    "SizesDifferError",
    "Survey",
    "TransparencyWarning",
    "UnclearPatientsWarning",
    "VolumeFacts",
    "WhiteIsZeroWarning",
    "check_size",
    "file_reader",
    "fit_image",
    "fit_masks",
    "guess_dataset",
    "load_dataset",
    "own_options",
    "register_dataset",
    "registered_datasets",
    "split_indices",
    "survey_dataset",
]
