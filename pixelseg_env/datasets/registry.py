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
from pixelseg_env.datasets.files import FileReader
from pixelseg_env.datasets.fitting import FITS, Size, check_size
from pixelseg_env.datasets.pairs import Pair
from pixelseg_env.datasets.splits import split_indices
from pixelseg_env.errors import DataError, OptionError, UnknownOptionError, check_choice, did_you_mean
from pixelseg_env.plugins import is_plugin, load_plugin, resolve

Loader = Callable[..., SegmentationDataset]
Lister = Callable[..., list[Pair]]
LoaderT = TypeVar("LoaderT", bound=Loader)
PathLike = str | os.PathLike[str]
DATA_VARIABLE = "PIXELSEG_DATA"

_COMMON = ("data", "size", "fit", "keep_empty")
SETTLED_SECONDS = 2.0  # a file changed less than this ago may change again without a new time stamp


class _Entry(NamedTuple):
    loader: Loader | str
    files: bool | tuple[str, ...] | None  # None: as the caller likes
    share: bool
    reader: FileReader | str | None = None
    lister: Lister | str | None = None


_loaders: dict[str, _Entry] = {}
_shared: WeakValueDictionary[Hashable, SegmentationDataset] = WeakValueDictionary()


@overload
def register_dataset(
    name: str,
    loader: LoaderT,
    *,
    overwrite: bool = ...,
    files: bool | tuple[str, ...] = ...,
    share: bool = ...,
    reader: FileReader | str | None = ...,
    lister: Lister | str | None = ...,
) -> LoaderT: ...


@overload
def register_dataset(
    name: str,
    loader: str,
    *,
    overwrite: bool = ...,
    files: bool | tuple[str, ...] = ...,
    share: bool = ...,
    reader: FileReader | str | None = ...,
    lister: Lister | str | None = ...,
) -> str: ...


@overload
def register_dataset(
    name: str,
    loader: None = ...,
    *,
    overwrite: bool = ...,
    files: bool | tuple[str, ...] = ...,
    share: bool = ...,
    reader: FileReader | str | None = ...,
    lister: Lister | str | None = ...,
) -> Callable[[LoaderT], LoaderT]: ...


def register_dataset(
    name: str,
    loader: Loader | str | None = None,
    *,
    overwrite: bool = False,
    files: bool | tuple[str, ...] = True,
    share: bool = False,
    reader: FileReader | str | None = None,
    lister: Lister | str | None = None,
) -> Any:
    """Makes a data set known under a name.

    Also a decorator: `@register_dataset("mine")`. Loader, reader and lister may be written `module:name`: they
    are then imported when they are first used.

    Args:
        name: what users will write in `load_dataset(name)`.
        loader: `loader(data, size, fit, keep_empty, **options) -> SegmentationDataset`. It returns the whole
            set; splitting is common to all. `data` is a list[Path], each checked to exist; `size` is (H, W)
            or None for the native size; `fit` is "resize" or "crop"; `keep_empty` says whether images
            without object stay. Where it brings masks to `size`, it should hand over the files' own masks too,
            `native=NativeMasks.of(masks, fit)`, or evaluations can only be at that size. Its further parameters,
            best spelt out with defaults, are the set's own options: `load_dataset` refuses any other name.
        overwrite: replace a data set of that name.
        files: the set is read from folders, so `load_dataset` demands `data`. Endings such as `(".csv",)`: it
            is read from files of these kinds. With False it refuses `data`, and the loader gets an empty list.
        share: environments of one process that ask for the same thing share one copy. Only for a loader
            whose result depends on nothing but its arguments and the files under `data`.
        reader: how `pixelseg predict` reads one file as an agent saw it in training, such as
            `ImageReader(pixels=read_mine)`; without one it refuses.
        lister: `lister(data, **options)`, of the loader's own options those it names -> the files of each item, for
            `survey_dataset`: sizes, label values and duplicates are found in them.

    Returns:
        The loader, or the decorator if no loader was given.

    Raises:
        OptionError: the name is taken (and `overwrite` is not set) or is not a name; the loader cannot be called.
    """

    def add(function: Loader | str) -> Loader | str:
        if not isinstance(name, str) or not name or is_plugin(name):
            raise OptionError(f"a data set's name must be a non-empty string without a colon, got {name!r}")
        if not callable(function) and not is_plugin(function):
            raise OptionError(f"the loader of data set {name!r} must be callable, got {type(function).__name__}")
        if reader is not None and not isinstance(reader, FileReader) and not is_plugin(reader):
            raise OptionError(f"the reader of data set {name!r} must be a FileReader, got {type(reader).__name__}")
        if name in _loaders and not overwrite:
            raise OptionError(f"a data set named {name!r} is registered already; choose another name or overwrite=True")
        _loaders[name] = _Entry(function, files, share, reader, lister)
        return function

    return add if loader is None else add(loader)


def registered_datasets() -> tuple[str, ...]:
    """Returns the names that `load_dataset` knows, sorted."""
    return tuple(sorted(_loaders))


def _find_entry(name: str) -> _Entry:
    """What a registered name, or `module:name` of a loader, stands for; its loader is imported.

    Raises:
        OptionError: there is no such name, or it cannot be imported or called.
    """
    found: Any = resolve("dataset", name, _loaders)
    if isinstance(found, _Entry):
        return found._replace(loader=_imported(found.loader))
    if not callable(found):
        raise OptionError(
            f"dataset={name!r}: expected a loader, loader(data, size, fit, keep_empty, **options) -> "
            f"SegmentationDataset, got {type(found).__name__}"
        )
    # A module that registers its loader says there how it is read.
    known = next((entry for entry in _loaders.values() if entry.loader in (found, name)), None)
    return _Entry(found, None, False) if known is None else known._replace(loader=found)


def _imported(value: Any) -> Any:
    return load_plugin("dataset", value) if is_plugin(value) else value


def file_reader(name: str) -> FileReader:
    """How single files of a data set are read.

    Args:
        name: a registered name, or `module:name` of a loader.

    Returns:
        The reader.

    Raises:
        OptionError: there is no such data set, or it does not say how.
    """
    reader = _imported(_find_entry(name).reader)
    if isinstance(reader, FileReader):
        return reader
    able = ", ".join(sorted(known for known, entry in _loaders.items() if entry.reader is not None))
    raise OptionError(
        f"data set {name!r} does not say how one file of it is read; register it with a reader, "
        "register_dataset(..., reader=ImageReader(pixels=read_image)), or name a data set whose files are read as "
        f"yours should be ({able})"
    )


def list_files(name: str, data: PathLike | Sequence[PathLike] | None, **options: Any) -> list[Pair] | None:
    """The files of each item of a data set; None where it is not read from files, or does not list them.

    Raises:
        OptionError: see `load_dataset`.
        DataError: see `load_dataset`.
    """
    entry = _find_entry(name)
    lister = _imported(entry.lister)
    if lister is None:
        return None
    parameters = inspect.signature(lister).parameters
    given = {key: value for key, value in options.items() if key in parameters}
    return list(lister(_find_paths(name, entry.files, data), **given))


def own_options(name: str) -> list[str] | None:
    """The names of a data set's own options; None where it takes any.

    Raises:
        OptionError: it is not known, or its plug-in cannot be imported.
    """
    function: Any = _find_entry(name).loader
    parameters = inspect.signature(function).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return None
    # The loader's first four are handed over by position, whatever a third party calls them.
    return list(parameters)[len(_COMMON) :]


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
        name: a registered name ("phantom", "folder", "nifti", ...), `module:name` of a loader of your own (see
            `register_dataset`), or a data set that was made already: then only a `split` that is given is cut out of
            it; `size`, `fit` and `keep_empty` do not apply.
        data: folder of the files (of `table`: the table), or several that are joined. Without it the variable
            PIXELSEG_DATA counts (several folders separated as in PATH). One case may be spread over folders; the
            same slice of the same case twice is an error.
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
    entry = _find_entry(name)
    check_choice("fit", fit, FITS)
    shape = check_size(size)
    if entry.files or (entry.files is None and data is not None):
        paths = _find_paths(name, entry.files, data)
    elif data is None:
        paths = []
    else:
        raise OptionError(
            f"data={data!r} cannot be used with data set {name!r}, which is not read from files; "
            "name the data set that your files are, e.g. 'folder'"
        )
    _check_signature(name, entry.loader, paths, shape, fit, keep_empty, **options)
    loaded: Any = entry.loader(paths, shape, fit, keep_empty, **options)  # type: ignore[operator]  # it is imported
    if not isinstance(loaded, SegmentationDataset):
        raise DataError(
            f"data set {name!r}: expected its loader to return a SegmentationDataset, got {type(loaded).__name__}; "
            "SegmentationDataset.from_arrays makes one of arrays"
        )
    return loaded


def _check_signature(name: str, loader: Any, *arguments: Any, **options: Any) -> None:
    try:
        inspect.signature(loader).bind(*arguments, **options)
    except TypeError as error:
        raise OptionError(
            f"data set {name!r}: its loader cannot be called as loader(data, size, fit, keep_empty, **options), "
            f"{error}; give it these parameters"
        ) from error
    except ValueError:  # a built-in function without a signature
        return


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
        found = own_options(name)
        if found is None:
            return
        own = found
    parameters = inspect.signature(caller).parameters if caller else {}
    callers = [p.name for p in parameters.values() if p.name != "self" and p.kind is not inspect.Parameter.VAR_KEYWORD]
    known = list(dict.fromkeys([*own, *callers, *common]))
    for option in options:
        if option not in own and option not in common:
            shown = f"{name.name!r}, loaded already," if isinstance(name, SegmentationDataset) else repr(name)
            listed = ", ".join(own) if own else "none"
            others = ", ".join(p for p in known if p not in own)
            raise UnknownOptionError(
                f"unexpected keyword argument {option!r}: data set {shown} has no option {option!r}; its options: "
                f"{listed}; options of every data set: {others}.{did_you_mean(option, known)}"
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
        files = _fingerprint(_find_paths(str(name), entry.files, arguments.get("data"))) if entry.files else ()
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


def missing(path: Path) -> str:
    """Says that a path does not exist, and, of a relative one, from where it was looked up."""
    return f"{path}: does not exist" + ("" if path.is_absolute() else f" (looked up from {Path.cwd()})")


def _find_paths(
    name: str, files: bool | tuple[str, ...] | None, data: PathLike | Sequence[PathLike] | None
) -> list[Path]:
    """The folders, or files, to read, each of which exists.

    Raises:
        DataError: none was given, one does not exist, or is not of the kind that the data set is read from.
    """
    wanted = f"a {' or '.join(files)} file" if isinstance(files, tuple) else "the folder"
    source = "data"
    if data is None:
        source = DATA_VARIABLE
        data = [part for part in os.environ.get(DATA_VARIABLE, "").split(os.pathsep) if part]
        if not data:
            kind = "file" if isinstance(files, tuple) else "folder"
            raise DataError(
                f"data set {name!r} is read from files, but no {kind} was given: pass data=<{kind}> "
                f"or set the environment variable {DATA_VARIABLE}; 'phantom' needs no files"
            )
    entries = [data] if isinstance(data, str | os.PathLike) else list(data)
    if not entries:
        raise DataError(f"data set {name!r}: data holds no path; expected a folder or a list of folders")
    paths = [Path(entry).expanduser() for entry in entries]
    for path in paths:
        expected = f"expected {wanted} of data set {name!r} (from {source})"
        if not path.exists():
            raise DataError(f"{missing(path)}; {expected}")
        if isinstance(files, tuple) and (path.is_dir() or not path.name.lower().endswith(files)):
            raise DataError(f"{path}: is {'a folder' if path.is_dir() else 'of another kind'}; {expected}")
        if files is True and not path.is_dir():
            raise DataError(f"{path}: is a file; {expected}")
    return paths
