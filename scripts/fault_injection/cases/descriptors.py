"""Too few file descriptors."""

import socket
import threading

from ..case import Outcome, check, fault, wait_until
from ..net import accepts, get, is_served


@fault()
def out_of_descriptors(lab):
    """`RLIMIT_NOFILE` of 48, and 100 idle connections"""
    proxy = lab.proxy({"upstream": lab.backend().address, "workers": 2}, wrapper=("prlimit", "--nofile=48:48"))
    check(is_served(proxy.port), "no response before the fault")
    idle = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(100)]
    proxy.wait_for_log("cannot accept connections")
    queued = sum(accepts(proxy.port) for _ in range(3))
    for connection in idle:
        connection.close()
    recovered = wait_until(lambda: is_served(proxy.port), "a response")
    check(all(is_served(proxy.port) for _ in range(20)), "not every response after the fault is a 200")
    proxy.shut_down()
    return Outcome(f"new connections wait in the accept queue ({queued} of 3); logged", recovered)


@fault()
def out_of_descriptors_to_the_backend(lab):
    """`RLIMIT_NOFILE` of 40, and 60 concurrent requests that each need a backend connection"""
    proxy = lab.proxy({"upstream": lab.backend().address, "rate_limit_enabled": "false", "workers": 1},
                      wrapper=("prlimit", "--nofile=40:40"))
    responses = []
    clients = [threading.Thread(target=lambda: responses.append(get(proxy.port, "/slow", timeout=20))) for _ in range(60)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    errors = [text for status, text in responses if status != 200]
    check(all("proxy-status" in text.lower() for text in errors), f"an error without Proxy-Status: {errors[:1]}")
    recovered = wait_until(lambda: is_served(proxy.port), "a response")
    check(all(is_served(proxy.port) for _ in range(20)), "not every response after the fault is a 200")
    proxy.shut_down()
    return Outcome(f"{60 - len(errors)} requests succeed, {len(errors)} get an error with `Proxy-Status`", recovered)
