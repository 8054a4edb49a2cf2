"""Serves a directory, and decodes paths in every way that is known of other servers.

Servlet containers remove `;` parameters; IIS and PHP on Windows treat backslashes as slashes, ignore case, trailing dots
and spaces, and streams, and decode `%u002e`; old decoders accept overlong UTF-8; some servers decode twice, normalise
Unicode, or stop at a NUL. This is independent of the code of the filter, so that a mistake in one is not in the other.

Usage: lenient.py FOLDER PORT
"""

import http.server
import os
import re
import sys
import unicodedata
import urllib.parse

FOLDER, PORT = sys.argv[1], int(sys.argv[2])


def decode(path: bytes) -> bytes:
    return urllib.parse.unquote_to_bytes(path)


def decode_iis(path: bytes) -> bytes:
    wide = re.sub(rb"%[uU]([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)).encode("utf-8", "ignore"), path)
    return decode(wide)


def decode_overlong(path: bytes) -> bytes:
    path = decode(path)
    path = re.sub(rb"[\xc0\xc1]([\x80-\xbf])", lambda m: bytes([(m[0][0] & 1) << 6 | m[1][0] & 63]), path)
    three = lambda m: chr((m[0][1] & 31) << 6 | m[1][0] & 63).encode()
    return re.sub(rb"\xe0[\x80-\x9f]([\x80-\xbf])", three, path)


def until_nul(path: bytes) -> bytes:
    return path.split(b"\0")[0]


def servlet(path: bytes) -> bytes:
    return b"/".join(segment.split(b";")[0] for segment in path.split(b"/"))


def windows(path: bytes) -> bytes:
    segments = path.replace(b"\\", b"/").split(b"/")
    return b"/".join(s if s in (b".", b"..") else re.split(rb"::|:\$", s)[0].rstrip(b". ") for s in segments)


def compatible(path: bytes) -> bytes:
    return unicodedata.normalize("NFKC", path.decode("utf-8", "ignore")).encode()


def latin1(path: bytes) -> bytes:
    return path.decode("iso-8859-1").encode()


def ignore_case(path: bytes) -> bytes:
    return path.decode("utf-8", "surrogateescape").lower().encode("utf-8", "surrogateescape")


def collapse(path: bytes) -> bytes:
    return os.path.normpath(b"/" + path.lstrip(b"/"))


WAYS = [
    [decode, collapse],
    [decode, decode, collapse],
    [decode, decode, decode, collapse],
    [collapse, decode, collapse, decode],
    [servlet, decode, collapse],
    [decode, servlet, collapse],
    [decode, decode, servlet, collapse],
    [decode, until_nul, collapse],
    [decode, decode, until_nul, collapse],
    [decode_iis, windows, collapse],
    [decode_iis, decode_iis, windows, collapse],
    [decode_overlong, collapse],
    [decode, decode_overlong, collapse],
    [decode_overlong, windows, collapse],
    [decode, compatible, collapse],
    [decode, latin1, collapse],
    [decode, decode, latin1, collapse],
    [decode, latin1, compatible, collapse],
    [decode_iis, compatible, collapse],
    [decode, compatible, windows, collapse],
    [decode, compatible, decode, collapse],
    [decode, compatible, servlet, collapse],
    [decode, lambda path: path.decode("utf-8", "ignore").encode(), collapse],
    [decode, lambda path: re.sub(rb"[\x00-\x1f\x7f]", b"", path), collapse],
    [decode, lambda path: path.strip(), lambda path: path.rstrip(b"/"), collapse],
    # Servers that join and open paths may leave the root.
    [decode],
    [decode, lambda path: path.replace(b"\\", b"/")],
]

FILES = {}
for place, _, names in os.walk(os.path.dirname(FOLDER)):
    for name in names:
        FILES[ignore_case(os.path.join(place, name).encode())] = os.path.join(place, name)


def find(path: bytes):
    for way in WAYS:
        reading = path
        for step in way:
            reading = step(reading)
        name = ignore_case(os.path.normpath(FOLDER.encode() + b"/" + reading))
        if name in FILES:
            return FILES[name]
    return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one segment: otherwise each response waits for a delayed acknowledgement.
    wbufsize = -1

    def do_GET(self):
        path = self.path.encode("iso-8859-1").split(b"?")[0]
        name = find(path)
        body = open(name, "rb").read() if name else b"not found\n"
        self.send_response(200 if name else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
