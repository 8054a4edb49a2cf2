"""Name servers that stop responding."""

import os
import time

from ..case import Outcome, check, fault, wait_until
from ..lab import run
from ..net import NameServer, get, is_served


@fault("mount")
def name_server_outage(lab):
    """the name server stops responding for 20 s"""
    resolv_conf = lab.folder() / "resolv.conf"
    resolv_conf.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    system_file = os.path.realpath("/etc/resolv.conf")
    run("mount", "--bind", resolv_conf, system_file)
    try:
        server, backend = NameServer(), lab.backend()
        proxy = lab.proxy({"upstream": f"a.backend:{backend.port}", "upstream_connect_timeout": "2s"})
        wait_until(lambda: is_served(proxy.port), "a response")
        server.is_enabled = False
        responses, start = [], time.monotonic()
        while time.monotonic() - start < 20:
            responses.append(get(proxy.port))
            time.sleep(0.2)
        errors = [(status, text) for status, text in responses if status != 200]
        check(all(status in (502, 503, 504) and "proxy-status" in text.lower() for status, text in errors),
              f"an unexpected error: {errors[:1]}")
        server.is_enabled = True
        recovered = wait_until(lambda: is_served(proxy.port), "a response", 30)
        proxy.shut_down()
    finally:
        run("umount", system_file)
    return Outcome(f"{len(responses) - len(errors)} requests succeed, {len(errors)} get an error with `Proxy-Status`", recovered)
