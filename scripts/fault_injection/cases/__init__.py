"""The cases, in the order of the report."""

from . import descriptors, disks, log, clock, names, signals, crashes, reload  # noqa: F401 (importing registers them)
