"""kill -9 while files are written."""

import random
import shutil
import time

from ..case import Outcome, check, fault, wait_until
from ..net import accepts, certificate, free_port

WRITING_CALLS = ["openat", "write", "fsync", "rename", "renameat", "renameat2", "link", "linkat", "fchmod", "mkdir"]


@fault("strace")
def killed_at_each_write(lab):
    """SIGKILL at each system call that writes the local CA and its certificates"""
    backend = lab.backend()
    kills = 0
    for call in WRITING_CALLS:
        for number in range(1, 40):
            folder = lab.folder()
            settings = {"upstream": backend.address, "tls_local": "true", "tls_cache_dir": folder / "certs"}
            strace = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}",
                      "-e", f"inject={call}:signal=KILL:when={number}")
            was_killed = start_and_kill(lab, settings, strace)
            written = {path: path.read_bytes() for path in (folder / "certs").rglob("*.pem")}
            # A key without its certificate has signed nothing yet, and may be replaced.
            if not any(path.name == "ca.pem" for path in written):
                written = {}
            kills += was_killed
            restarted = lab.proxy(settings)
            check(certificate(restarted.port, "localhost"), f"no certificate after a kill at {call} {number}")
            for path, content in written.items():
                check(path.read_bytes() == content, f"{path} changed after a kill at {call} {number}")
            restarted.shut_down()
            shutil.rmtree(folder)
            if not was_killed:
                break
    return Outcome(f"{kills} kills; each next start serves, with every complete file")


def start_and_kill(lab, settings, wrapper):
    """Starts a proxy that strace kills. Returns whether it died before it listened."""
    proxy = lab.proxy(settings, wrapper=wrapper, waits=False)
    try:
        wait_until(lambda: proxy.has_ended() or accepts(proxy.port), "the proxy listens or dies")
        return proxy.has_ended()
    finally:
        proxy.kill()


@fault("pebble", "openssl")
def killed_while_a_certificate_is_issued(lab):
    """SIGKILL at 15 random moments between the start and the issued certificate, on one directory"""
    port = free_port()
    directory = lab.acme_directory(port)
    cache = lab.folder() / "certs"
    settings = {"upstream": lab.backend().address, **directory.settings(cache)}
    incomplete = 0
    for _ in range(15):
        proxy = lab.proxy(settings, port=port, waits=False)
        time.sleep(random.uniform(0.02, 2.5))
        proxy.kill()
        proxy.check_log()
        incomplete += sum(not path.read_text().rstrip().endswith("-----") for path in cache.rglob("*.pem"))
    proxy = lab.proxy(settings, port=port)
    recovered = wait_until(lambda: certificate(port, "a.test"), "a certificate is served", 40)
    check(incomplete == 0, f"{incomplete} incomplete files")
    proxy.shut_down()
    return Outcome(f"no incomplete file; {directory.orders()} orders in total", recovered)
