"""Image files as arrays: decoded to RGB of one size, and kept decoded where that takes too long for every process to do again."""

import fcntl
import hashlib
import io
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from engine.data.dataset import cache_root
from engine.errors import DataError

log = logging.getLogger(__name__)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Picture = UInt8[np.ndarray, "3 side side"]

_CACHE_VERSION = 1  # raise when the decoded pixels change
_CHUNK = 256  # images decoded ahead, so that all are never in memory
_NAMED = 10  # files that one message names


def decoded(paths: Sequence[Path], side: int) -> Iterator[tuple[bytes, Picture]]:
    """(bytes of the file, its pixels) of each image in turn: RGB, first frame, stretched to a square, bilinear with antialiasing.

    Raises: DataError naming the files that cannot be read, once all were tried.
    """
    broken: list[str] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), _CHUNK):
            for made in pool.map(lambda path: _decode(path, side), paths[start : start + _CHUNK]):
                if isinstance(made, str):
                    broken.append(made)
                elif not broken:
                    yield made
    if broken:
        raise DataError(*named(broken), f"{len(broken)} of {len(paths)} images cannot be used; replace them and start again")


def cached(name: str, paths: Sequence[Path], side: int, beside: Path) -> UInt8[np.ndarray, "n 3 side side"]:
    """The same pixels as one memory-mapped array, of which a process holds no more than it touches.

    They are one file, in `beside` where that is writable and else in this user's cache folder, which the first process that asks writes
    while others wait. It counts only when whole, and is made again when an image's name, size or time of change is another.
    Raises: DataError naming the files that cannot be read, or saying what there is no room for.
    """
    file, shape = f"{name}-{side}-{_stamp(paths)}.npy", (len(paths), 3, side, side)
    for place in (beside, cache_root()):
        if (there := _mapped(place / file, shape)) is not None:
            return there
    place = beside if os.access(beside, os.W_OK) else cache_root()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with (place / f".{name}-{side}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _mapped(place / file, shape) is None:  # else another process made it meanwhile
                _write(place / file, place / f".{name}-{side}.tmp", paths, shape)
                for old in place.glob(f"{name}-{side}-*.npy"):
                    if old.name != file:
                        old.unlink()
    except OSError as error:
        raise DataError(f"{name}: the decoded images ({np.prod(shape) / 1e9:.1f} GB) cannot be kept in {place}: {error.strerror or error}; "
                        "make room there and start again") from error
    made = _mapped(place / file, shape)
    assert made is not None
    return made


def named(things: Sequence[str]) -> list[str]:
    """The first few of what a message should name, and how many more there are."""
    more = len(things) - _NAMED
    return [*things[:_NAMED], *([f"and {more} more"] if more > 0 else [])]


def _decode(path: Path, side: int) -> tuple[bytes, Picture] | str:
    """The file and its pixels, or what is wrong with it."""
    from PIL import Image, UnidentifiedImageError

    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            if image.mode[0] in "IF":
                return f"{path}: has more than 8 bits a channel, which would be cut off; convert it to 8 bits"
            square = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        return content, np.asarray(square).transpose(2, 0, 1)
    except UnidentifiedImageError:
        return f"{path}: is no image, or damaged"
    except Exception as error:  # whatever Pillow's readers stumble over in a damaged file: they raise nearly anything
        return f"{path}: cannot be read ({error})"


def _stamp(paths: Sequence[Path]) -> str:
    """Changes with the images, their order and how they are decoded; without reading them."""
    digest = hashlib.sha256(f"version {_CACHE_VERSION}".encode())
    for path in paths:
        state = path.stat()
        digest.update(f"\n{path.name}\0{state.st_size}\0{state.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def _mapped(path: Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, "n 3 side side"] | None:
    """The array in a file, None where there is none or it is not whole. Copy-on-write: torch wants memory that can be written."""
    try:
        found = np.load(path, mmap_mode="c")
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == shape and found.dtype == np.uint8 else None


def _write(path: Path, scratch: Path, paths: Sequence[Path], shape: tuple[int, ...]) -> None:
    """Decode into a scratch file, force it to disk and give it its name. Written in order and not through a map, whose writer a full
    disk would kill."""
    log.info("decoding %d images to %s", len(paths), path)
    try:
        with scratch.open("wb") as out:
            np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for _, pixels in decoded(paths, shape[-1]):
                out.write(pixels.tobytes())
            out.flush()
            os.fsync(out.fileno())
        scratch.rename(path)
    finally:
        scratch.unlink(missing_ok=True)
