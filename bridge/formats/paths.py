"""What all formats share about files: names of items, and paths that stay inside the dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from bridge.errors import DataError, ImageError, UsageError
from bridge.images import SUFFIXES


def unique_names(paths: Sequence[str]) -> list[str]:
    """What to call each item: its file name, or the whole path where several items share the file name.

    Predictions are matched to items by name, so two items must never have the same one: where even the paths are the
    same, ``(2)`` and so on are added. An item without a path has no name either.
    """
    short = [base_name(path) for path in paths]
    shared = Counter(short)
    seen: Counter[str] = Counter()
    names: list[str] = []
    for name, path in zip(short, paths, strict=True):
        chosen = name if shared[name] == 1 else path
        seen[chosen] += 1
        names.append(f"{chosen} ({seen[chosen]})" if chosen and seen[chosen] > 1 else chosen)
    return names


def base_name(path: str) -> str:
    """The last part of a path written with either kind of slash."""
    return path.replace("\\", "/").rsplit("/", 1)[-1]


def image_files(folder: Path) -> list[Path]:
    """Every image file in a folder and the folders below it, sorted by path."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def find_inside(roots: Iterable[Path], written: str, name: str, *others: str) -> Path:
    """The existing file that a dataset calls ``written``, under the first of ``roots`` that has it.

    Tried are the path as written and then, since datasets are moved about, ``name`` and ``others``.

    Args:
        written: a path from the dataset: untrusted.
        name: the item's own name, which is unique: a file name, or the whole path where file names repeat.

    Raises:
        ImageError: there is no such file, or the path (or a link on its way) leads out of the folder.
    """
    roots = [root.resolve() for root in roots]
    relative = PurePosixPath(written.replace("\\", "/"))
    if ".." in relative.parts or "\0" in written:
        raise _leads_out(name, written, roots)
    for candidate in (root / part for part in (str(relative), name, *others) for root in roots):
        try:
            found = candidate.resolve()
            if not found.is_file():
                continue
        except OSError as error:  # a name that is too long, or a loop of links
            raise ImageError(f"the image {name} cannot be looked up: {error.strerror or error}") from error
        if any(found.is_relative_to(root) for root in roots):
            return found
        if not relative.is_absolute():
            raise _leads_out(name, str(found), roots)
    raise ImageError(
        f"the image {name} is not there",
        expected=f"a file {written} in {_listed(roots)}",
        todo="Name the folder that holds the images with --images",
    )


def refuse_outside(file: Path, folder: Path) -> None:
    """See that a file of labels or names, found in a dataset, is part of it.

    Raises:
        DataError: it is a link that leads out of ``folder``, or no file that ends, such as a pipe.
    """
    if not file.is_file() or not file.resolve().is_relative_to(folder.resolve()):
        raise DataError(
            f"{file} leads out of the dataset, or is no file",
            expected=f"a file inside {folder}",
            todo="Copy the file into the dataset",
        )


def image_roots(given: Path | None, customary: Iterable[Path]) -> tuple[Path, ...]:
    """The folders in which images are looked for: the one the person named, else the customary ones that exist.

    Raises:
        UsageError: the named one is no folder.
    """
    if given is None:
        return tuple(folder for folder in customary if folder.is_dir())
    if not given.is_dir():
        raise UsageError(f"{given} is not a folder", expected="the folder that holds the images (--images)")
    return (given,)


def need_exists(path: Path) -> Path:
    """The path itself. Raises UsageError when nothing is there."""
    if not path.exists():
        raise UsageError(f"{path} does not exist", expected="a dataset file or folder", todo="Check the path")
    return path


def _leads_out(name: str, where: str, roots: Sequence[Path]) -> ImageError:
    return ImageError(
        f"the path of image {name} leads out of the dataset: {where}",
        expected=f"a file inside {_listed(roots)}",
        todo="Copy the image into the dataset, or name the folder that holds the images with --images",
    )


def _listed(roots: Sequence[Path]) -> str:
    return " or ".join(str(root) for root in roots)
