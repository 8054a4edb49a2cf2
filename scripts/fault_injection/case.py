"""The registry of fault cases, and the checks that they use."""

import time
from dataclasses import dataclass
from typing import Callable

CASES = []


class Failed(Exception):
    """An expectation of a case does not hold."""


@dataclass
class Outcome:
    """The result of a case: a row of the report."""

    effect: str
    # Seconds from the end of the fault to normal service.
    recovered: float = 0.0
    lost: str = "nothing"


@dataclass
class Case:
    """A fault, the programs that it needs, and the function that injects it. The docstring describes the fault."""

    name: str
    needs: tuple
    run: Callable

    @property
    def description(self):
        return self.run.__doc__


def fault(*needs):
    """Registers a function as a case. It takes a `Lab` and returns an `Outcome`."""

    def register(function):
        CASES.append(Case(function.__name__, needs, function))
        return function

    return register


def check(holds, message):
    if not holds:
        raise Failed(message)


def wait_until(holds, description, timeout=20.0):
    """Polls until `holds()` is true. Returns the time it took in seconds."""
    start = time.monotonic()
    while not holds():
        if time.monotonic() - start > timeout:
            raise Failed(f"timeout after {timeout:.0f} s: {description}")
        time.sleep(0.01)
    return time.monotonic() - start
