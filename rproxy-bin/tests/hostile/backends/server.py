"""Prints each received request as `seen METHOD TARGET HOST LENGTH`.

Like many handlers, it does not read the content of methods that do not use it, which stays in the connection.
"""
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self):
        length = "-"
        if self.command not in ("GET", "HEAD", "DELETE", "OPTIONS"):
            length = self.content()
        text = f"{self.command} {self.requestline.split()[1]} {self.headers.get('Host', '-')} {length}"
        if length is None:
            self.close_connection = True
            return
        print(f"seen {text}", flush=True)
        self.send_response(200)
        self.send_header("X-Seen", "1")
        self.send_header("Content-Length", str(len(text) + 1))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode() + b"\n")

    def content(self):
        """Returns the length of the content; None if it is truncated."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            length = 0
            while True:
                line = self.rfile.readline()
                if not line:
                    return None
                size = int(line.split(b";")[0], 16)
                if len(self.rfile.read(size)) != size:
                    return None
                length += size
                if size == 0:
                    while (line := self.rfile.readline()) not in (b"\r\n", b"\n"):
                        if not line:
                            return None
                    return length
                self.rfile.readline()
        length = int(self.headers.get("Content-Length") or 0)
        return length if len(self.rfile.read(length)) == length else None

    def log_message(self, *_):
        pass


ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
