"""Any folder of images as a dataset: classes, pixels, splits; an identity that follows the contents and not the clock; errors in words."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.data import folder
from engine.data.catalogue import DATASETS, canonical, get, loaded
from engine.data.loader import Splits
from engine.data.splits import DataSpec
from engine.errors import BadInput, DataError
from engine.jobs import plan, rerun, study
from engine.jobs.calibrate import Calibration
from engine.jobs.cells import Cell, Numeric
from engine.jobs.study import make_cell
from engine.runtime import Rng
from engine.train import Recipe

SUFFIXES = ("png", "jpg", "bmp", "gif", "webp", "tif", "ppm", "JPEG")


def forget() -> None:
    """What this process has read: as a new one starts."""
    folder.read.cache_clear()
    loaded.cache_clear()


@pytest.fixture
def pets(tmp_path: Path) -> Iterator[Path]:
    """24 images in 3 classes, of one grey each and of many formats and sizes."""
    for i in range(24):
        path = tmp_path / "pets" / ("cat", "dog", "ant")[i % 3] / f"{i:02d}.{SUFFIXES[i % 8]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10 + i, 40 - i), (10 * i,) * 3).save(path)
    forget()
    yield tmp_path / "pets"
    forget()


def cell_of(name: str) -> Cell:
    return make_cell(DataSpec(name, "seeds", forget=0), "cnn", "ft", seed=0, recipe=Recipe(batch=64), numeric=Numeric())


def test_a_sub_folder_is_a_class_and_the_last_sixth_is_test(pets: Path) -> None:
    info, data = get(f"folder:{pets}"), loaded(f"folder:{pets}")
    assert (info.classes, info.class_names, info.channels, info.side) == (3, ("ant", "cat", "dog"), 3, 32)
    files = sorted(pets.rglob("*.*"))  # by class, then by name: here the names of classes and files are in that order
    order = np.random.RandomState(123).permutation(24)
    assert data.images.shape == (24, 3, 32, 32) and data.n_train == 20
    numbers = [int(files[i].stem) for i in order]
    assert [round(float(image.float().mean()) / 10) for image in data.images] == numbers
    assert data.labels.tolist() == [(1, 2, 0)[n % 3] for n in numbers]


def test_it_is_split_and_batched_like_any_other(pets: Path) -> None:
    splits = Splits.of([DataSpec(f"folder:{pets}@16", "seeds", forget=0)])
    assert [splits.size(name) for name in ("retain", "forget", "val", "test")] == [15, 2, 3, 4]
    x, y = next(splits.batches("retain", 8, Rng([0]), augment=True))
    assert x.shape == (1, 8, 3, 16, 16) and y.shape == (1, 8)


def test_pictures_of_any_kind_become_rgb(pets: Path) -> None:
    half = Image.new("RGBA", (8, 8), (250, 120, 10, 255))
    for name, image in {"a.png": half, "b.png": half.convert("RGB").quantize(4), "c.png": Image.new("L", (8, 8), 77), "d.png": Image.new("1", (8, 8), 1),
                        "e.tif": Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "f.gif": half.convert("RGB")}.items():
        image.save(pets / "ant" / name)
    data = loaded(f"folder:{pets}")
    first = {tuple(image[:, 0, 0].tolist()) for image in data.images}
    assert {(250, 120, 10), (77, 77, 77), (255, 255, 255)} <= first


def test_what_is_no_image_or_hidden_is_passed_over_and_deeper_folders_count(pets: Path) -> None:
    before = get(f"folder:{pets}").version
    (pets / "ant" / "notes.txt").write_text("none")
    (pets / "ant" / "._00.png").write_bytes(b"what some systems leave beside a file")
    (pets / ".trash").mkdir()
    (pets / "readme.png").write_text("loose files are in no class")
    forget()
    assert get(f"folder:{pets}").version == before
    (pets / "ant" / "more").mkdir()
    shutil.copy(next((pets / "ant").glob("*.png")), pets / "ant" / "more" / "99.png")
    forget()
    assert len(loaded(f"folder:{pets}")) == 25


# ---- identity


def test_the_same_folder_has_one_name_wherever_it_is_named(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = f"folder:{pets}@32"
    monkeypatch.chdir(pets.parent)
    monkeypatch.setenv("HOME", str(pets.parent))
    for name in (whole, f"folder:{pets}", f"folder:{pets}/", "folder:pets", "folder:./pets@32", "folder:~/pets"):
        assert canonical(name) == whole and get(name).name == whole and cell_of(name).run_id == cell_of(whole).run_id
    assert canonical("folder:a@b") == f"folder:{pets.parent}/a@b@32" and canonical(canonical("folder:a@7@64")) == f"folder:{pets.parent}/a@7@64"
    assert [canonical(name) for name in DATASETS] == list(DATASETS)


def test_identity_follows_the_contents_and_not_the_clock(pets: Path) -> None:
    name, file = f"folder:{pets}", pets / "cat" / "00.png"
    seen = {cell_of(name).run_id}

    def again() -> str:
        forget()
        return cell_of(name).run_id

    os.utime(file, (0, 0))
    assert again() in seen
    file.write_bytes(file.read_bytes())
    assert again() in seen
    Image.new("RGB", (10, 40), (1, 2, 3)).save(file)
    changed = again()
    file.rename(pets / "dog" / "00.png")
    moved = again()
    (pets / "ant").rename(pets / "emu")
    renamed = again()
    assert len(seen | {changed, moved, renamed}) == 4
    assert cell_of(f"{name}@16").run_id != renamed  # and the side


def test_a_cell_of_a_folder_comes_back_from_its_record(pets: Path) -> None:
    cell = cell_of(f"folder:{pets}")
    assert Cell.from_content(cell.content) == cell and dict(cell.versions)["data"] == get(cell.data.dataset).version
    assert plan.split_sizes(cell.data) == {"retain": 15, "forget": 2, "val": 3, "test": 4}


def test_studies_and_reruns_take_a_folder(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lethe_home: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text("name: own\ndata: {dataset: 'folder:pets'}\nmodel: cnn\nseeds: {count: 1}\nmethods: {ft: {}}\n")
    made, = study.read(tmp_path / "own.yaml")
    assert made.dataset == f"folder:{pets}@32"
    cells = [cell for _, cell in made.models({"ft": {}})]
    assert len(cells) == 3 and {cell.data.dataset for cell in cells} == {made.dataset}
    asked = rerun.ask("ft", "folder:pets", "cnn", 0)
    assert asked.cell.data.dataset == made.dataset
    assert Calibration(lethe_home).strategy(asked.cell).replicas > 0


# ---- what is wrong with a folder


def faults_of(name: str) -> str:
    forget()
    with pytest.raises(BadInput) as caught:
        get(name)
    return str(caught.value)


def test_a_folder_that_is_not_there(pets: Path) -> None:
    assert "there is no such folder; give the path of one that has a sub-folder" in faults_of(f"folder:{pets}/none")
    assert "there is no such folder" in faults_of(f"folder:{pets / 'cat' / '00.png'}")
    assert "names no folder; write folder:PATH" in faults_of("folder:")
    for side in (7, 1025):
        assert f"got a side of {side}, must be from 8 to 1024" in faults_of(f"folder:{pets}@{side}")


def test_too_few_classes_and_images_are_said_at_once(pets: Path) -> None:
    shutil.rmtree(pets / "dog")
    shutil.rmtree(pets / "cat")
    text = faults_of(f"folder:{pets}")
    assert "has 1 sub-folders, must have 2 or more" in text and "has 8 images in its classes, must have 20 or more" in text
    shutil.rmtree(pets / "ant")
    assert "has 0 sub-folders" in faults_of(f"folder:{pets}")


def test_a_class_without_images_is_named(pets: Path) -> None:
    (pets / "yak").mkdir()
    (pets / "yak" / "clip.mp4").write_bytes(b"")
    text = faults_of(f"folder:{pets}")
    assert "no images in yak; put some there or remove it. An image is a file that ends in .bmp" in text and "must have" not in text


def test_unreadable_files_are_all_named(pets: Path) -> None:
    (pets / "cat" / "00.png").write_bytes((pets / "cat" / "00.png").read_bytes()[:50])
    (pets / "dog" / "01.jpg").write_text("no picture")
    Image.new("I;16", (8, 8), 40_000).save(pets / "ant" / "02.png")
    text = faults_of(f"folder:{pets}")
    assert all(f"{pets}/{name}: " in text for name in ("cat/00.png", "dog/01.jpg", "ant/02.png"))
    assert "more than 8 bits a channel" in text and "3 of 25 images cannot be used" in text


def test_a_long_list_of_unreadable_files_is_cut(pets: Path) -> None:
    for path in pets.rglob("*.*"):
        path.write_text("no picture")
    assert len(faults_of(f"folder:{pets}").splitlines()) == 12


def test_an_unknown_name_is_still_told_the_nearest(pets: Path) -> None:
    with pytest.raises(BadInput, match="no dataset named 'fodler:x'"):
        canonical("fodler:x")
    with pytest.raises(DataError, match="no such folder"):
        loaded("folder:/no/such/place")
