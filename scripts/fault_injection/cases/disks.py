"""Full file systems under the certificate directory."""

import time

from ..case import Outcome, check, fault, wait_until
from ..net import certificate, free_port


def fill(disk):
    with open(disk / "fill", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


@fault("pebble", "openssl", "mount")
def full_disk_under_certificates(lab):
    """the disk of the certificate directory is full while a certificate is issued"""
    disk, port = lab.tmpfs(), free_port()
    certificates = disk / "certs"
    certificates.mkdir(mode=0o700)
    directory = lab.acme_directory(port)
    settings = {"upstream": lab.backend().address, **directory.settings(certificates)}
    # The disk fills up between the registration of the account and the order.
    proxy = lab.proxy(settings, port=port, waits=False)
    wait_until(lambda: list(certificates.glob("acme/*/account*")), "the account is stored")
    fill(disk)
    wait_until(lambda: certificate(port, "a.test"), "a certificate is served", 30)
    served = certificate(port, "a.test")
    is_logged = "serving it from memory" in proxy.log()
    (disk / "fill").unlink()
    check(is_logged, "the failed write is not logged")

    start = time.monotonic()
    stored = lambda: list(certificates.rglob("certificate*.pem"))
    while not stored() and time.monotonic() - start < 60:
        time.sleep(0.1)
    recovered, is_stored = time.monotonic() - start, bool(stored())
    check(certificate(port, "a.test") == served, "another certificate is served")
    orders = directory.orders()
    proxy.shut_down()
    restarted = lab.proxy(settings, port=port)
    wait_until(lambda: certificate(port, "a.test"), "a certificate is served after a restart")
    new_orders = directory.orders() - orders
    check(is_stored == (certificate(port, "a.test") == served), "the stored certificate is not the one that was served")
    restarted.shut_down()
    effect = "served from memory, logged; "
    if is_stored:
        return Outcome(effect + "written as soon as there is room", recovered)
    return Outcome(f"{effect}the next start orders again ({new_orders} order)", lost="the file; the service continues")


@fault("mount")
def full_disk_at_startup(lab):
    """the disk of the certificate directory is full at the start"""
    disk = lab.tmpfs()
    fill(disk)
    settings = {"upstream": lab.backend().address, "tls_local": "true", "tls_cache_dir": disk / "certs"}
    proxy = lab.proxy(settings, waits=False)
    code = proxy.process.wait(20)
    check(code != 0 and "certs" in proxy.log(), f"exit code {code}: {proxy.log()}")
    proxy.check_log()
    (disk / "fill").unlink()
    lab.proxy(settings).shut_down()
    return Outcome(f"does not start (exit {code}); the error names the directory")
