"""Signals at random moments."""

import random
import signal
import socket
import threading
import time

from ..case import Outcome, check, fault
from ..net import free_port

ROUNDS = 60


class Client(threading.Thread):
    """Sends requests on new connections until it is stopped. An accepted connection must get a whole response."""

    def __init__(self, port, stop):
        super().__init__()
        self.port, self.stop = port, stop
        self.served, self.truncated = 0, []

    def run(self):
        while not self.stop.is_set():
            try:
                connection = socket.create_connection(("127.0.0.1", self.port), 5)
            except OSError:
                time.sleep(0.002)
                continue
            with connection:
                try:
                    connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                    response = b"".join(iter(lambda: connection.recv(4096), b""))
                except OSError:
                    response = b"reset"
            if response.endswith(b"hello\n"):
                self.served += 1
            else:
                self.truncated.append(response)


@fault()
def sigterm_at_any_moment(lab):
    """60 starts under load, each with SIGTERM after 0 to 300 ms, a third of them with SIGHUP before it"""
    backend = lab.backend()
    before_startup = served = 0
    for round_number in range(ROUNDS):
        port, stop = free_port(), threading.Event()
        proxy = lab.proxy({"upstream": backend.address, "rate_limit_enabled": "false"}, port=port, waits=False)
        clients = [Client(port, stop) for _ in range(3)]
        for client in clients:
            client.start()
        time.sleep(random.uniform(0, 0.3))
        if round_number % 3 == 0:
            proxy.send_signal(signal.SIGHUP)
        proxy.send_signal(signal.SIGTERM)
        code = proxy.process.wait(20)
        stop.set()
        for client in clients:
            client.join()
        # Without handlers yet, a signal kills the process; it has accepted no connection by then.
        before_startup += code in (-signal.SIGTERM, -signal.SIGHUP)
        check(code in (0, -signal.SIGTERM, -signal.SIGHUP), f"exit code {code}: {proxy.log()[-300:]}")
        truncated = [response for client in clients for response in client.truncated]
        check(not truncated, f"{len(truncated)} truncated responses: {truncated[:1]}, exit code {code}, {proxy.log()[-300:]}")
        proxy.check_log()
        served += sum(client.served for client in clients)
    return Outcome(f"{ROUNDS - before_startup} drained (exit 0), {before_startup} ended before they listened; "
                   f"{served} requests, none aborted")
