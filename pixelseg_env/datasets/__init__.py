"""Image and mask sets: a generated one, three file layouts, and a door for third parties."""

from pixelseg_env.datasets import brain as _brain
from pixelseg_env.datasets import cardiac as _cardiac
from pixelseg_env.datasets import folder as _folder
from pixelseg_env.datasets import phantom as _phantom
from pixelseg_env.datasets.base import SegmentationDataset
from pixelseg_env.datasets.memory import LargeDatasetWarning
from pixelseg_env.datasets.registry import load_dataset, register_dataset, registered_datasets
from pixelseg_env.datasets.splits import split_indices

# overwrite=True: reloading this package in a notebook is not a name clash.
register_dataset("phantom", _phantom.load_phantom, files=False, overwrite=True, share=True)
register_dataset("brain", _brain.load_brain, overwrite=True, share=True)
register_dataset("cardiac", _cardiac.load_cardiac, overwrite=True, share=True)
register_dataset("folder", _folder.load_folder, overwrite=True, share=True)

__all__ = [
    "LargeDatasetWarning",
    "SegmentationDataset",
    "load_dataset",
    "register_dataset",
    "registered_datasets",
    "split_indices",
]
