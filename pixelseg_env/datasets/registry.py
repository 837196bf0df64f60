"""Finding a data set by name, checking what was asked for, and cutting out a split."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload
from weakref import WeakValueDictionary

from pixelseg_env.datasets.base import SegmentationDataset
from pixelseg_env.datasets.fitting import FITS, Size, check_size
from pixelseg_env.datasets.splits import split_indices
from pixelseg_env.errors import DataError, OptionError, check_choice, did_you_mean

Loader = Callable[..., SegmentationDataset]
LoaderT = TypeVar("LoaderT", bound=Loader)
PathLike = str | os.PathLike[str]
DATA_VARIABLE = "PIXELSEG_DATA"

_COMMON = ("data", "size", "fit", "keep_empty")
SETTLED_SECONDS = 2.0  # a file changed less than this ago may change again without a new time stamp


class _Entry(NamedTuple):
    loader: Loader
    files: bool
    share: bool


_loaders: dict[str, _Entry] = {}
_shared: WeakValueDictionary[Hashable, SegmentationDataset] = WeakValueDictionary()


@overload
def register_dataset(
    name: str, loader: LoaderT, *, overwrite: bool = ..., files: bool = ..., share: bool = ...
) -> LoaderT: ...


@overload
def register_dataset(
    name: str, loader: None = ..., *, overwrite: bool = ..., files: bool = ..., share: bool = ...
) -> Callable[[LoaderT], LoaderT]: ...


def register_dataset(
    name: str, loader: Loader | None = None, *, overwrite: bool = False, files: bool = True, share: bool = False
) -> Callable[[Loader], Loader] | Loader:
    """Makes a data set known under a name.

    Also a decorator: `@register_dataset("mine")`.

    Args:
        name: what users will write in `load_dataset(name)`.
        loader: `loader(data, size, fit, keep_empty, **options) -> SegmentationDataset`. It returns the whole
            set; splitting is common to all. `data` is a list[Path], each checked to exist; `size` is (H, W)
            or None for the native size; `fit` is "resize" or "crop"; `keep_empty` says whether images
            without object stay. Its further parameters, best spelt out with defaults, are the
            set's own options: `load_dataset` refuses any other name.
        overwrite: replace a data set of that name.
        files: the set is read from files, so `load_dataset` demands `data`. With False it refuses
            `data`, and the loader gets an empty list.
        share: environments of one process that ask for the same thing share one copy. Only for a loader
            whose result depends on nothing but its arguments and the files under `data`.

    Returns:
        The loader, or the decorator if no loader was given.

    Raises:
        OptionError: the name is taken (and `overwrite` is not set) or is not a name; the loader cannot be called.
    """

    def add(function: Loader) -> Loader:
        if not isinstance(name, str) or not name:
            raise OptionError(f"a data set's name must be a non-empty string, got {name!r}")
        if not callable(function):
            raise OptionError(f"the loader of data set {name!r} must be callable, got {type(function).__name__}")
        if name in _loaders and not overwrite:
            raise OptionError(f"a data set named {name!r} is registered already; choose another name or overwrite=True")
        _loaders[name] = _Entry(function, files, share)
        return function

    return add if loader is None else add(loader)


def registered_datasets() -> tuple[str, ...]:
    """Returns the names that `load_dataset` knows, sorted."""
    return tuple(sorted(_loaders))


def load_dataset(
    name: str | SegmentationDataset,
    data: PathLike | Sequence[PathLike] | None = None,
    split: str | None = None,
    size: Size = 64,
    fit: str = "resize",
    split_by: str = "patient",
    split_seed: int = 0,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    keep_empty: bool = False,
    **options: Any,
) -> SegmentationDataset:
    """Loads one split of a data set into memory.

    Args:
        name: a registered name ("phantom", "brain", "cardiac", "folder", ...), or a data set that was made
            already: then only a `split` that is given is cut out of it; `size`, `fit` and `keep_empty` do not apply.
        data: folder of the files, or several folders that are joined. Without it the variable PIXELSEG_DATA
            counts (several folders separated as in PATH). One case may be spread over folders; the same slice
            of the same case twice is an error.
        split: "train", "val", "test" or "all"; None is "train" for a name, and "all" for a data set that was
            made already: whoever hands over images means all of them.
        size: every image becomes (size, size) or (H, W). None keeps the native size, which must be one.
        fit: "resize" (images by area average, or linearly when enlarged; masks by nearest neighbour) or
            "crop" (centre crop, zero pad).
        split_by: "patient" or "slice". By slice, neighbouring slices of a patient, near-copies, leak from
            training into test; it is there to reproduce what the publication appears to do.
        split_seed: seed of the split's shuffle.
        fractions: shares of train, val and test.
        keep_empty: also keep images whose mask is empty.
        **options: the data set's own, e.g. `channels="flair"` of "brain"; see its loader.

    Returns:
        The items of the split: images (N, C, H, W), masks uint8 (N, H, W).

    Raises:
        OptionError: a name or value is not known; the message gives the nearest valid one.
        DataError: the data cannot be used; the message names the file.

    Warns:
        LargeDatasetWarning: the set takes more than 1 GiB; announced before the pixels are read.
    """
    check_option_names(name, options)
    if split is None:
        split = "all" if isinstance(name, SegmentationDataset) else "train"
    # All options are checked before any file is read: a typing error costs no waiting.
    split_indices(["a", "b", "c"], None, split, split_by, split_seed, fractions)
    if isinstance(name, SegmentationDataset):
        if data is not None:
            raise OptionError(f"data={data!r} cannot be used with a data set that is loaded already ({name.name!r})")
        dataset = name
    else:
        dataset = _load_whole(name, data, size, fit, keep_empty, options)
    if split == "all":
        return dataset
    return dataset.subset(split_indices(dataset.cases, dataset.slices, split, split_by, split_seed, fractions))


def _load_whole(
    name: str,
    data: PathLike | Sequence[PathLike] | None,
    size: Size,
    fit: str,
    keep_empty: bool,
    options: dict[str, Any],
) -> SegmentationDataset:
    loader, files, _ = _loaders[check_choice("dataset", name, _loaders)]
    check_choice("fit", fit, FITS)
    shape = check_size(size)
    if files:
        paths = _find_paths(name, data)
    elif data is None:
        paths = []
    else:
        raise OptionError(
            f"data={data!r} cannot be used with data set {name!r}, which is not read from files; "
            "name the data set that your files are, e.g. 'folder'"
        )
    return loader(paths, shape, fit, keep_empty, **options)


def check_option_names(
    name: str | SegmentationDataset, options: Iterable[str], caller: Callable[..., Any] | None = None
) -> None:
    """Refuses options that neither `load_dataset` nor the data set's loader has.

    Args:
        name: of the data set, or a data set that was made already.
        options: the names that were given.
        caller: what was called with them; the names of its own parameters may have been meant.

    Raises:
        OptionError: a name is not known; the message gives the nearest that is.
    """
    common = [p for p in inspect.signature(load_dataset).parameters if p not in ("name", "options")]
    own: list[str] = []
    if not isinstance(name, SegmentationDataset):
        loader = inspect.signature(_loaders[check_choice("dataset", name, _loaders)].loader).parameters
        if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in loader.values()):
            return
        # The loader's first four are handed over by position, whatever a third party calls them.
        own = list(loader)[len(_COMMON) :]
    parameters = inspect.signature(caller).parameters if caller else {}
    callers = [p.name for p in parameters.values() if p.name != "self" and p.kind is not inspect.Parameter.VAR_KEYWORD]
    known = list(dict.fromkeys([*own, *callers, *common]))
    for option in options:
        if option not in own and option not in common:
            shown = f"{name.name!r}, loaded already," if isinstance(name, SegmentationDataset) else repr(name)
            listed = ", ".join(own) if own else "none"
            others = ", ".join(p for p in known if p not in own)
            raise OptionError(
                f"data set {shown} has no option {option!r}; its options: {listed}; options of every data set: "
                f"{others}.{did_you_mean(option, known)}"
            )


def load_shared(name: str | SegmentationDataset, **arguments: Any) -> SegmentationDataset:
    """Does what `load_dataset` does, but hands out one copy for as long as somebody holds it.

    The copy is found again by the loader, every argument, and path, size and time stamps of every file
    under the data folders; so changed files are read anew. Sets that were not registered with
    `share=True` are loaded every time.
    """
    key = _sharing_key(name, arguments)
    found = None if key is None else _shared.get(key)
    if found is None:
        found = load_dataset(name, **arguments)
        if key is not None and _sharing_key(name, arguments) == key:  # else a file changed while it was read
            _shared[key] = found
    return found


def _sharing_key(name: str | SegmentationDataset, arguments: dict[str, Any]) -> Hashable | None:
    """What a loaded set can be found again by, or None if it must not be shared."""
    entry = _loaders.get(name) if isinstance(name, str) else None
    if entry is None or not entry.share:
        return None
    try:
        files = _fingerprint(_find_paths(str(name), arguments.get("data"))) if entry.files else ()
        plain = _plain(sorted((key, value) for key, value in arguments.items() if key != "data" or not entry.files))
    except (DataError, OSError, TypeError):
        return None  # load_dataset says what is wrong, or the value cannot be compared
    return None if files is None else (entry.loader, plain, files)


def _plain(value: Any) -> Hashable:
    """A value with its types, so that True, 1 and 1.0 differ.

    Raises:
        TypeError: it is of a type that might change or that does not compare by value.
    """
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    if value is None or type(value) in (bool, int, float, str):
        return type(value).__name__, value
    raise TypeError(type(value).__name__)


def _fingerprint(folders: list[Path]) -> Hashable | None:
    """Path, identity, size and time stamps of every file, or None if one changed a moment ago."""
    found: list[tuple[str, int, int, int, int]] = []
    seen: set[tuple[int, int]] = set()  # a link may lead back to a folder above it
    newest = 0
    for root in folders:
        for folder, names, files in os.walk(root.resolve(), followlinks=True):
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                names.clear()
            seen.add((status.st_dev, status.st_ino))
            for file in files:
                path = os.path.join(folder, file)
                status = os.stat(path)
                found.append((path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
                newest = max(newest, status.st_mtime_ns, status.st_ctime_ns)
    if newest > (time.time() - SETTLED_SECONDS) * 1e9:
        return None
    return tuple(map(str, folders)), tuple(sorted(found))


def _find_paths(name: str, data: PathLike | Sequence[PathLike] | None) -> list[Path]:
    """The folders to read, each of which exists.

    Raises:
        DataError: none was given, or one does not exist.
    """
    source = "data"
    if data is None:
        source = DATA_VARIABLE
        data = [part for part in os.environ.get(DATA_VARIABLE, "").split(os.pathsep) if part]
        if not data:
            raise DataError(
                f"data set {name!r} is read from files, but no folder was given: pass data=<folder> "
                f"or set the environment variable {DATA_VARIABLE}; 'phantom' needs no files"
            )
    entries = [data] if isinstance(data, str | os.PathLike) else list(data)
    if not entries:
        raise DataError(f"data set {name!r}: data holds no path; expected a folder or a list of folders")
    paths = [Path(entry).expanduser() for entry in entries]
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: does not exist; expected the folder of data set {name!r} (from {source})")
        if not path.is_dir():
            raise DataError(f"{path}: is a file; expected the folder of data set {name!r} (from {source})")
    return paths
