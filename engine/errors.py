"""What can go wrong, in the words a person reads. Imports nothing, so every layer may raise these."""


class LetheError(Exception):
    """A failure while running: the command line exits with 1 and prints the message, no traceback."""

    exit_code = 1


class BadInput(LetheError):
    """Something that the person gave cannot be used. Lists all faults at once; the command line exits with 2.

    Each fault says what was given, what is allowed and what to do.
    """

    exit_code = 2

    def __init__(self, *faults: str) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(faults))


class DataError(BadInput):
    """A dataset, an array or a split that is missing, damaged or of the wrong shape."""


class StoreError(BadInput):
    """A results file that is missing, damaged, locked or written by a newer version."""


class RunError(LetheError):
    """A computation that failed: what failed, where its log is, what was kept."""


class Diverged(RunError):
    """A model whose weights or losses stopped being finite: recorded as a failure, never passed on as a number."""
