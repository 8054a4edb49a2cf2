"""The table of outcomes."""

import subprocess
import time
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent.parent / "docs/contributing/reliability/faults.md"
INTRODUCTION = """# Fault test results

`scripts/faults`, {date}, {version}. *Recovered* is the time from the end of the fault to normal service.

"""


def row(description, outcome):
    recovered = f"{outcome.recovered:.1f} s" if outcome.recovered >= 0.05 else "immediately"
    return (description, outcome.effect, outcome.lost, recovered)


def table(rows):
    lines = ["| Fault | Effect | Lost | Recovered |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows]) + "\n"


def write_page(rows, rproxy):
    version = subprocess.run([rproxy, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(INTRODUCTION.format(date=time.strftime("%Y-%m-%d"), version=version) + table(rows))
