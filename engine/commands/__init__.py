"""What the commands do: each takes its parsed arguments and returns a JSON document and the same as text for people.

Each imports what it needs, so that `--help` and the reading commands start quickly. Raises: LetheError.
"""

import argparse
from collections.abc import Callable
from typing import Any

Handler = Callable[[argparse.Namespace], tuple[Any, str]]
