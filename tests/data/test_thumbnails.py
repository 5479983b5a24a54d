"""Pictures of examples: the very pixels, enlarged, and one message where there is none."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from engine.data import thumbnails
from engine.data.catalogue import loaded
from engine.data.dataset import from_torchvision
from engine.errors import BadInput, DataError


def opened(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_a_picture_is_the_image_enlarged() -> None:
    image = torch.tensor([[[0, 8], [16, 4]]], dtype=torch.uint8)
    shown = opened(thumbnails.png(image, scale=16))
    assert shown.shape == (64, 64, 3)
    assert [shown[0, 0, 0], shown[0, 63, 0], shown[63, 0, 1], shown[63, 63, 2]] == [0, 128, 255, 64]
    assert (shown[:32, :32] == 0).all() and (shown[:32, 32:] == 128).all()
    colour = torch.arange(3 * 80 * 80, dtype=torch.int32).remainder(251).byte().reshape(3, 80, 80)
    assert (opened(thumbnails.png(colour)) == colour.permute(1, 2, 0).numpy()).all()  # large enough already


def test_pictures_of_digits(capsys: pytest.CaptureFixture[str]) -> None:
    assert thumbnails.main(["digits", "5", "46"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["5", "46"]
    expected = (loaded("digits").images[46, 0].float() * 255 / 16).round().numpy()
    assert (opened(base64.b64decode(found["46"]))[::8, ::8, 0] == expected).all()


@pytest.mark.parametrize(("arguments", "message"), [(["digits", "1797"], "they are 0 to 1796"), (["digit", "1"], "did you mean 'digits'")])
def test_what_there_is_not(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert thumbnails.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_unknown_examples_are_refused() -> None:
    with pytest.raises(BadInput, match="no example -1"):
        thumbnails.pictures("digits", [-1])


def test_offline_nothing_is_downloaded(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETHE_DATA", str(tmp_path))
    monkeypatch.setenv("LETHE_OFFLINE", "1")
    with pytest.raises(DataError, match="MNIST is not in .*LETHE_DATA"):
        from_torchvision("MNIST", "MNIST/raw/*-ubyte")
