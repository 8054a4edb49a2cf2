"""Clients, ports and a name server."""

import socket
import ssl
import struct
import threading

# The cases compare certificates themselves, so chains are not verified.
UNVERIFIED = ssl._create_unverified_context()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def accepts(port):
    """Whether a TCP connection to the port succeeds."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def get(port, path="/", tls=None, host="a.test", timeout=10):
    """Sends one request. Returns status and response as text; the status is 0 without a response."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as plain:
            stream = tls.wrap_socket(plain, server_hostname=host) if tls else plain
            stream.sendall(f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
            response = b"".join(iter(lambda: stream.recv(65536), b""))
            return (int(response.split(b" ", 2)[1]) if response else 0), response.decode("latin-1")
    except (OSError, ssl.SSLError, ValueError, IndexError):
        return 0, ""


def is_served(port, **options):
    return get(port, **options)[0] == 200


def certificate(port, host):
    """Returns the certificate that the server presents for a name, in DER, or None."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as plain:
            with UNVERIFIED.wrap_socket(plain, server_hostname=host) as stream:
                return stream.getpeercert(binary_form=True)
    except (OSError, ssl.SSLError):
        return None


class NameServer:
    """Resolves every name to 127.0.0.1, with a TTL of one second, until it is disabled."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        self.is_enabled = True
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            query, client = self.socket.recvfrom(512)
            if not self.is_enabled:
                continue
            end = query.index(b"\0", 12) + 5
            is_ipv4 = query[end - 4:end - 2] == b"\0\1"
            record = b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", 1, 4) + bytes([127, 0, 0, 1]) if is_ipv4 else b""
            header = query[:2] + b"\x81\x80" + struct.pack(">HHHH", 1, int(is_ipv4), 0, 0)
            self.socket.sendto(header + query[12:end] + record, client)
