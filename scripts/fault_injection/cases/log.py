"""The reader of the access log."""

import os
import subprocess

from ..case import Outcome, check, fault, wait_until
from ..net import accepts, free_port, is_served


@fault()
def log_without_a_reader(lab):
    """the reader of the access log has exited"""
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    port = free_port()
    environment = {"RPROXY_LISTEN": f"127.0.0.1:{port}", "RPROXY_UPSTREAM": lab.backend().address,
                   "RPROXY_ACCESS_LOG": "json", "PATH": os.environ["PATH"]}
    process = subprocess.Popen([lab.rproxy], env=environment, stdout=reader.stdin, stderr=subprocess.DEVNULL)
    reader.stdin.close()
    try:
        wait_until(lambda: accepts(port), "the proxy listens")
        check(all(is_served(port) for _ in range(100)), "not every request was served")
        process.terminate()
        check(process.wait(20) == 0, "the exit code is not 0")
    finally:
        process.kill()
    return Outcome("all requests are served; log lines are dropped")
