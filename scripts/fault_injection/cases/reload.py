"""Reloads with files that cannot be used."""

import signal
import time

from ..case import Outcome, check, fault
from ..lab import self_signed_certificate
from ..net import UNVERIFIED, certificate, is_served


@fault("openssl")
def bad_files_at_a_reload(lab):
    """certificate, key and settings file are truncated, emptied and deleted, each followed by SIGHUP"""
    folder = lab.folder()
    chain, key, configuration = folder / "c.pem", folder / "k.pem", folder / "rproxy.toml"
    self_signed_certificate("a.test", chain, key)
    configuration.write_text('blocked_paths = "/private/**"\n')
    valid = {path: path.read_bytes() for path in [chain, key, configuration]}
    proxy = lab.proxy({"upstream": lab.backend().address, "tls_cert": chain, "tls_key": key},
                      arguments=("--config", str(configuration)))
    served = certificate(proxy.port, "a.test")
    for path, content in valid.items():
        for replacement in [content[:len(content) // 2], b"", b"\xff\xfe\0", None]:
            path.unlink()
            if replacement is not None:
                path.write_bytes(replacement)
            proxy.send_signal(signal.SIGHUP)
            time.sleep(0.2)
            check(is_served(proxy.port, tls=UNVERIFIED), f"no response with a bad {path.name}")
            check(certificate(proxy.port, "a.test") == served, f"another certificate with a bad {path.name}")
            path.write_bytes(content)
    proxy.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    check(is_served(proxy.port, tls=UNVERIFIED), "no response after the files are valid again")
    proxy.shut_down()
    return Outcome("the previous ones stay in use; logged each time")
