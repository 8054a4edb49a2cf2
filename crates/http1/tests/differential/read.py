"""Reads requests with h11: one in hexadecimal per line of the input, one reading per line of the output.

A reading has five parts, separated by spaces: method, target, fields, content, trailers. Fields are `NAME=VALUE` with commas
between them. All texts are hexadecimal. The reading of a rejected request is `rejected` and the reason.
"""
import sys

import h11


def fields(headers):
    return ",".join(f"{bytes(name).lower().hex()}={bytes(value).hex()}" for name, value in headers)


def read(message):
    connection = h11.Connection(our_role=h11.SERVER, max_incomplete_event_size=64 * 1024)
    request, content = None, b""
    connection.receive_data(message)
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            content += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            if connection.trailing_data[0] and request.method != b"CONNECT":
                return "rejected: bytes after the end"
            head = f"{request.method.hex()} {request.target.hex()} {fields(request.headers)}"
            return f"{head} {content.hex()} {fields(event.headers)}"
        else:
            return f"rejected: {event!r}"


for line in sys.stdin:
    try:
        print(read(bytes.fromhex(line)), flush=True)
    except h11.RemoteProtocolError as error:
        print(f"rejected: {error}", flush=True)
