"""What exists (methods and their parameters, data, models, attacks), as one plain file beside the results.

Pages read it instead of importing the engine, so that new methods reach them without an import of torch.
"""

import json
import os
from pathlib import Path
from typing import Any

from engine import registry
from engine.attacks import population, population_mia, suite
from engine.data.catalogue import DATASETS
from engine.models.catalogue import ARCHITECTURES

SCENARIOS = [{"name": "random", "label": "Random examples", "doc": "A random tenth of the training data is to be forgotten."}]
_REFERENCES = [
    {"name": "original", "label": "Original", "doc": "Trained on retain and forget data: what the deletion request is about."},
    {"name": "retrained", "label": "Retrained", "doc": "Trained from scratch on the retain data alone: the reference that unlearning tries to match."},
]


def build() -> dict[str, list[dict[str, Any]]]:
    """The catalogue as plain values."""
    references = [{**r, "family": "reference", "source": "reference", "paper": "", "variants": ["corrected"], "reads": [], "version": 1, "params": []}
                  for r in _REFERENCES]
    attacks = [{"name": i.name, "label": i.label, "doc": i.doc, "paper": i.paper, "version": i.version}
               for i in (population_mia.INFO, population.INFO, *suite.infos())]
    return {"methods": references + [m.describe() for m in registry.load().values() if m.variant == "corrected"],
            "datasets": [d.describe() for d in DATASETS.values()], "models": [a.describe() for a in ARCHITECTURES.values()],
            "attacks": attacks, "scenarios": SCENARIOS}


def publish(folder: Path) -> Path:
    """Write it to `folder`/catalogue.json as a whole."""
    folder.mkdir(parents=True, exist_ok=True)
    path, scratch = folder / "catalogue.json", folder / f".catalogue-{os.getpid()}.tmp"
    scratch.write_text(json.dumps(build(), indent=1) + "\n", encoding="utf-8")
    scratch.replace(path)
    return path
