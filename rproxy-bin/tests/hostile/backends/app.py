"""Prints each received request as `seen METHOD TARGET HOST LENGTH`."""
import sys


def app(environ, start_response):
    content = environ["wsgi.input"].read()
    length = environ.get("CONTENT_LENGTH")
    # Only the application detects truncated content.
    is_whole = length is None or len(content) == int(length)
    target, host = environ["RAW_URI"], environ.get("HTTP_HOST", "-")
    text = f"{environ['REQUEST_METHOD']} {target} {host} {len(content)}"
    if is_whole:
        print(f"seen {text}", flush=True, file=sys.stdout)
    start_response("200 OK", [("X-Seen", "1"), ("Content-Length", str(len(text) + 1))])
    return [text.encode() + b"\n"]
