"""Pictures of single examples, for people: `python -m engine.data.thumbnails DATASET EXAMPLE...` prints {example: PNG in base64}.

A process of its own, so that the app can show pictures and never load the data or torch itself.
"""

import argparse
import base64
import io
import json
import sys
from collections.abc import Sequence

from jaxtyping import UInt8
from torch import Tensor

from engine.data import catalogue
from engine.errors import BadInput, LetheError

SIDE = 64  # smallest side of a picture in pixels: smaller images are enlarged by a whole factor, pixels staying squares


def png(image: UInt8[Tensor, "c h w"], scale: int = 255) -> bytes:
    """One image as a PNG file. scale: the value that is white."""
    from PIL import Image

    grey = image.float().mul(255 / scale).round().clamp(0, 255).byte()
    pixels = grey.expand(3, -1, -1) if len(grey) == 1 else grey
    times = max(1, -(-SIDE // min(pixels.shape[1:])))
    enlarged = pixels.repeat_interleave(times, 1).repeat_interleave(times, 2)
    out = io.BytesIO()
    Image.fromarray(enlarged.permute(1, 2, 0).numpy()).save(out, "PNG")
    return out.getvalue()


def pictures(dataset: str, examples: Sequence[int]) -> dict[int, bytes]:
    """PNG files of these examples, by their index in the dataset. Raises: BadInput for an index that it does not have; DataError."""
    info, data = catalogue.get(dataset), catalogue.loaded(dataset)
    if unknown := [example for example in examples if not 0 <= example < len(data)]:
        raise BadInput(f"{dataset} has no example {unknown[0]}: they are 0 to {len(data) - 1}")
    return {example: png(data.images[example], info.scale) for example in examples}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m engine.data.thumbnails", description="Pictures of single examples, as PNG in base64.")
    parser.add_argument("dataset")
    parser.add_argument("example", type=int, nargs="*", help="index into the dataset")
    asked = parser.parse_args(arguments)
    try:
        found = pictures(asked.dataset, asked.example)
    except LetheError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps({example: base64.b64encode(picture).decode() for example, picture in found.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
