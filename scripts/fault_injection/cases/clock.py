"""A wall clock that jumps."""

import time
from pathlib import Path

from ..case import Outcome, check, fault
from ..net import UNVERIFIED, get


@fault("faketime")
def clock_jumps(lab):
    """the wall clock jumps forward by two days, back by three, and to 1999, while requests are served and cached"""
    library = next((str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
    check(library, "libfaketime.so.1 is not in /usr/lib/*/faketime")
    folder = lab.folder()
    offset = folder / "offset"
    offset.write_text("+0\n")
    proxy = lab.proxy({"upstream": lab.backend().address, "tls_local": "true", "tls_cache_dir": folder / "certs",
                       "rate_limit": 1000, "rate_burst": 1000,
                       "LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": offset, "FAKETIME_CACHE_DURATION": "1",
                       "FAKETIME_DONT_FAKE_MONOTONIC": "1"})
    served = 0
    for shift in ["+0", "+2d", "-3d", "-9800d", "+0", "+400d", "+0"]:
        offset.write_text(shift + "\n")
        # libfaketime reads the file again after a second.
        time.sleep(1.3)
        for path in ["/", "/static/a.css", "/static/a.css"]:
            status, response = get(proxy.port, path, UNVERIFIED, "localhost")
            check(status == 200, f"status {status} for {path} at {shift}")
            age = next((line.split(":")[1] for line in response.lower().splitlines() if line.startswith("age:")), "0")
            check(int(age) >= 0, f"Age is {age} at {shift}")
            served += 1
    proxy.shut_down()
    return Outcome(f"{served} of {served} requests succeed; cached responses are fresh or fetched again")
