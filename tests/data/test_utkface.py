"""UTKFace from a small release in the real layout: classes by age, the study's test draw, a cache that only counts whole, errors in words."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.data import pictures, utkface
from engine.data.catalogue import canonical, get, loaded
from engine.data.loader import Splits
from engine.data.splits import DataSpec, indices
from engine.errors import BadInput, DataError

N = 60


@pytest.fixture
def faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A release of 60 faces of 20x20; of one grey each, so that stretching leaves it. Writes none of what a person has cached."""
    monkeypatch.setenv("LETHE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(utkface, "IMAGES", N)
    folder = tmp_path / "data" / "UTKface_Aligned_cropped" / "UTKFace"
    folder.mkdir(parents=True)
    for i in range(N):
        Image.new("RGB", (20, 20), (4 * i,) * 3).save(folder / f"{2 * i}_{i % 2}_0_201701{i:011d}.jpg.chip.jpg")
    loaded.cache_clear()
    yield folder
    loaded.cache_clear()


def greys(images: torch.Tensor) -> list[int]:
    """The number of each face, from its grey."""
    return [round(float(value) / 4) for value in images.float().mean((1, 2, 3))]


def caches(folder: Path) -> list[Path]:
    return sorted(folder.parent.glob("*.npy"))


@pytest.mark.parametrize(("age", "expected"), [(0, 0), (1, 0), (19, 0), (20, 1), (39, 1), (40, 2), (59, 2), (60, 3), (79, 3), (80, 4), (99, 4), (116, 4)])
def test_a_class_is_twenty_years_and_the_last_is_open(age: int, expected: int) -> None:
    assert utkface.class_of(f"{age}_1_2_20170116174525125.jpg.chip.jpg") == expected


def test_splits_of_the_release_have_the_studys_sizes() -> None:
    n_test = int(0.2 * 23_708)
    found = indices(DataSpec("utkface", "seeds", forget=0), 23_708 - n_test, n_test)
    assert [len(found[name]) for name in ("retain", "forget", "val", "test")] == [14_508, 1_613, 2_846, 4_741]


def test_faces_are_sorted_by_name_and_test_is_the_first_fifth_of_the_draw(faces: Path) -> None:
    data = utkface.load(8)
    names = sorted(path.name for path in faces.iterdir())
    order = np.random.default_rng(123).permutation(N)
    in_test = order[: N // 5]
    expected = [*(i for i in range(N) if i not in in_test), *in_test]
    ages = [int(names[i].split("_")[0]) for i in expected]
    assert data.n_train == N - N // 5 and data.images.shape == (N, 3, 8, 8) and data.images.dtype == torch.uint8
    assert greys(data.images) == [age // 2 for age in ages]
    assert data.labels.tolist() == [min(age // 20, 4) for age in ages]


def test_it_is_224_pixels_unless_its_name_says_otherwise(faces: Path) -> None:
    assert loaded("utkface").images.shape == (N, 3, 224, 224)
    assert loaded("utkface@16").images.shape == (N, 3, 16, 16)
    assert get("utkface@16").side == 16 and get("utkface@224") is get("utkface") and canonical("utkface@224") == "utkface"
    x, _ = next(Splits.of([DataSpec("utkface@16", "seeds", forget=0)]).ordered("test", 12))
    grey = torch.tensor(4 * np.array(greys(loaded("utkface@16").images[-12:])), dtype=torch.float32) / 255
    torch.testing.assert_close(x[0, :, 0, 0, 0], (grey - 0.485) / 0.229, atol=0.03, rtol=0)  # ImageNet's; JPEG moves a grey by one or two
    for bad in ("utkface@4", "utkface@5000"):
        with pytest.raises(BadInput, match="must be from 8 to 1024"):
            get(bad)
    with pytest.raises(BadInput, match="did you mean 'utkface'"):
        get("utkface@x")


def test_the_same_face_decodes_to_the_pixels_of_torchvisions_resize(faces: Path) -> None:
    from torchvision.transforms import v2

    chance = np.random.default_rng(0)
    path = sorted(faces.iterdir())[0]
    Image.fromarray(chance.integers(256, size=(40, 40, 3), dtype=np.uint8)).save(path)
    (_, pixels), = pictures.decoded([path], 16)
    assert np.array_equal(pixels.transpose(1, 2, 0), np.asarray(v2.Resize((16, 16))(Image.open(path))))


def test_images_are_decoded_once_and_mapped_not_read(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = utkface.load(8)
    assert len(caches(faces)) == 1

    def refused(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(pictures, "_decode", refused)
    again = utkface.load(8)
    assert torch.equal(first.images, again.images)
    mapped = pictures.cached("utkface", [faces / path for path in _in_order(faces)], 8, faces.parent)
    assert isinstance(mapped, np.memmap) and mapped.filename == caches(faces)[0]
    again.images[0] = 0  # stays in this process
    assert torch.equal(utkface.load(8).images, first.images)


def _in_order(faces: Path) -> list[str]:
    names, order = sorted(path.name for path in faces.iterdir()), np.random.default_rng(123).permutation(N)
    return [names[i] for i in (*sorted(order[N // 5 :]), *order[: N // 5])]


def test_changed_images_are_decoded_again_and_the_old_cache_goes(faces: Path) -> None:
    utkface.load(8)
    old = caches(faces)
    Image.new("RGB", (20, 20), (255,) * 3).save(faces / _in_order(faces)[0])
    os.utime(faces / _in_order(faces)[0], (0, 0))
    assert int(utkface.load(8).images[0].min()) == 255
    assert len(caches(faces)) == 1 and caches(faces) != old


@pytest.mark.parametrize("keep", [0, 60, 5_000])
def test_a_cache_that_is_not_whole_does_not_count(faces: Path, keep: int) -> None:
    whole = utkface.load(8).images.clone()
    cache = caches(faces)[0]
    cache.write_bytes(cache.read_bytes()[:keep])
    assert torch.equal(utkface.load(8).images, whole)


def test_a_process_killed_while_it_writes_leaves_nothing_that_counts(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            utkface.load(8)
    assert caches(faces) == []
    (faces.parent / ".utkface-8.tmp").write_bytes(b"what a harder kill leaves")
    assert len(utkface.load(8)) == N and not (faces.parent / ".utkface-8.tmp").exists()


def test_where_images_are_read_only_the_cache_goes_to_the_users_folder(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    utkface.load(8)
    assert caches(faces) == [] and len(list((tmp_path / "cache" / "lethe").glob("utkface-8-*.npy"))) == 1


def test_a_full_disk_is_said(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"utkface: .*cannot be kept in .*No space left on device; make room"):
        utkface.load(8)
    assert caches(faces) == []


# ---- what is wrong with the files


def test_without_the_folder_three_ways_are_named(faces: Path) -> None:
    faces.rename(faces.with_name("elsewhere"))
    with pytest.raises(DataError, match=r"there is no folder .*UTKFace\. .*susanqq.github.io.*\(1\) set LETHE_DATA.*\(2\) unpack.*\(3\) copy"):
        utkface.load(8)


def test_an_empty_folder_is_no_dataset(faces: Path) -> None:
    for path in faces.iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"no \*\.jpg in .*UTKFace\. .*\(1\) set LETHE_DATA"):
        utkface.load(8)


@pytest.mark.parametrize(("there", "message"), [(N - 1, "found 59 .* has 60; usually copying or unpacking ended early"),
                                                (N + 1, "found 61 .* has 60; usually other pictures, or a second copy")])
def test_a_wrong_count_says_what_that_usually_means(faces: Path, there: int, message: str) -> None:
    if there < N:
        sorted(faces.iterdir())[0].unlink()
    else:
        Image.new("RGB", (20, 20)).save(faces / "1_0_0_2017.jpg")
    with pytest.raises(DataError, match=message):
        utkface.load(8)


def test_names_without_an_age_are_named_beside_a_wrong_count(faces: Path) -> None:
    for name in ("holiday.jpg", "_1_0_2017.jpg", "x24_1_0_2017.jpg"):
        Image.new("RGB", (20, 20)).save(faces / name)
    with pytest.raises(DataError) as caught:
        utkface.load(8)
    count, names = caught.value.faults
    assert "found 63" in count and all(name in names for name in ("3 names", "holiday.jpg", "_1_0_2017.jpg", "x24_1_0_2017.jpg"))


def test_broken_images_are_all_named(faces: Path) -> None:
    first, second = _in_order(faces)[0], _in_order(faces)[N - 1]
    (faces / first).write_bytes((faces / first).read_bytes()[:200])
    (faces / second).write_text("no picture")
    with pytest.raises(DataError) as caught:
        utkface.load(8)
    assert first in caught.value.faults[0] and second in caught.value.faults[1] and "2 of 60 images" in caught.value.faults[2]
    assert caches(faces) == []
