"""The environment of a case: a working folder, and the proxies, backends and ACME directories that it starts."""

import http.server
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from .case import check, wait_until
from .net import accepts, free_port


class Lab:
    """Starts the parts of one case and ends all of them."""

    def __init__(self, rproxy, folder):
        self.rproxy = rproxy
        self._folder = folder
        self._started = []

    def folder(self):
        return Path(tempfile.mkdtemp(dir=self._folder))

    def tmpfs(self, size="1m"):
        """Mounts a small file system that a case can fill."""
        folder = self.folder()
        run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
        return folder

    def backend(self):
        return Backend()

    def proxy(self, settings, **options):
        """Starts the binary. `settings` are named as in a configuration file; names in capitals are other variables."""
        proxy = Proxy(self.rproxy, self.folder(), settings)
        self._started.append(proxy)
        proxy.start(**options)
        return proxy

    def acme_directory(self, tls_port):
        directory = AcmeDirectory(self.folder(), tls_port)
        self._started.append(directory)
        directory.start()
        return directory

    def close(self):
        for part in self._started:
            part.kill()
        subprocess.run(f"umount {self._folder}/* 2>/dev/null", shell=True, check=False)


class Backend:
    """An HTTP server. `/slow...` responds after 300 ms, `/static...` can be stored for 10 minutes."""

    def __init__(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if self.path.startswith("/slow"):
                    time.sleep(0.3)
                body = b"hello\n"
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                if self.path.startswith("/static"):
                    self.send_header("cache-control", "max-age=600")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, *_):
                pass

        server = Server(("127.0.0.1", 0), Handler)
        self.port = server.server_address[1]
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()


class Proxy:
    """A process of the binary."""

    def __init__(self, rproxy, folder, settings):
        self.rproxy, self.folder, self.settings = rproxy, folder, settings
        self.log_path = folder / "log"

    def start(self, wrapper=(), arguments=(), port=None, waits=True):
        """Starts the process, inside `wrapper` such as strace. Waits until it listens, unless `waits` is false."""
        self.port = port or free_port()
        variables = {name if name.isupper() else f"RPROXY_{name.upper()}": str(value) for name, value in self.settings.items()}
        environment = {
            "PATH": os.environ["PATH"],
            "RPROXY_LISTEN": f"127.0.0.1:{self.port}",
            "RPROXY_HTTP_PORT": "0",
            "RPROXY_DRAIN_TIMEOUT": "5",
            **variables,
        }
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([*wrapper, self.rproxy, *arguments], env=environment, cwd=self.folder,
                                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
                                            start_new_session=True)
        if waits:
            wait_until(lambda: self.has_ended() or accepts(self.port), "the proxy listens")
            check(not self.has_ended(), f"the proxy ended during its start: {self.log()[-300:]}")

    def has_ended(self):
        return self.process.poll() is not None

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_for_log(self, text):
        return wait_until(lambda: text in self.log(), f"{text!r} in the log")

    def send_signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """Kills the process and its wrapper."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def shut_down(self):
        """Shuts the process down gracefully."""
        check(not self.has_ended(), f"the proxy ended by itself: {self.log()[-300:]}")
        self.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        check(code == 0, f"exit code {code} after SIGTERM")
        self.check_log()

    def check_log(self):
        check("panic" not in self.log(), f"a panic: {self.log()[-500:]}")


class AcmeDirectory:
    """pebble as the ACME directory, with a resolver that sends every name to this machine."""

    def __init__(self, folder, tls_port):
        self.folder, self.tls_port = folder, tls_port
        self._processes = []

    def start(self):
        self.port, management, dns = free_port(), free_port(), free_port()
        self_signed_certificate("localhost", self.folder / "ca.pem", self.folder / "key.pem",
                                "-addext", "basicConstraints=critical,CA:FALSE")
        (self.folder / "pebble.json").write_text(f"""{{"pebble": {{
            "listenAddress": "127.0.0.1:{self.port}", "managementListenAddress": "127.0.0.1:{management}",
            "certificate": "{self.folder}/ca.pem", "privateKey": "{self.folder}/key.pem",
            "httpPort": 1, "tlsPort": {self.tls_port}, "ocspResponderURL": "", "externalAccountBindingRequired": false}}}}""")
        environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}
        resolver = ["pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", f"127.0.0.1:{dns}",
                    "-management", f"127.0.0.1:{free_port()}", "-http01", "", "-https01", "", "-tlsalpn01", ""]
        pebble = ["pebble", "-config", self.folder / "pebble.json", "-dnsserver", f"127.0.0.1:{dns}"]
        with open(self.folder / "log", "wb") as log:
            self._processes = [
                subprocess.Popen(resolver, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL),
                subprocess.Popen(pebble, env=environment, stdout=log, stderr=subprocess.STDOUT),
            ]
        wait_until(lambda: accepts(self.port), "the ACME directory listens")

    def settings(self, cache):
        return {"tls_domains": "a.test", "acme_directory": f"https://localhost:{self.port}/dir",
                "acme_ca": self.folder / "ca.pem", "tls_cache_dir": cache}

    def orders(self):
        return (self.folder / "log").read_text().count("POST /order-plz ")

    def kill(self):
        for process in self._processes:
            process.kill()
            process.wait()


def self_signed_certificate(name, certificate, key, *options):
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3",
        "-keyout", key, "-out", certificate, "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", *options)


def run(*command):
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
