"""Calls the server: `python3 grpc_client.py TARGET CA|- SECONDS`, with silence for SECONDS within a bidirectional stream."""
import queue
import sys
import time

import grpc

target, authority, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
if authority == "-":
    channel = grpc.insecure_channel(target)
else:
    with open(authority, "rb") as file:
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(file.read()))

messages = queue.Queue()
replies = channel.stream_stream("/test.Chat/Talk")(iter(messages.get, None), timeout=seconds + 20)
messages.put(b"one")
assert next(replies) == b"echo one"
time.sleep(seconds)
messages.put(b"two")
assert next(replies) == b"echo two"
messages.put(None)
assert list(replies) == [] and replies.code() is grpc.StatusCode.OK, replies.code()

assert list(channel.unary_stream("/test.Chat/Ticks")(b"", timeout=20)) == [b"0", b"1", b"2"]
for method, code in [("Fail", "FAILED_PRECONDITION"), ("None", "UNIMPLEMENTED")]:
    try:
        channel.unary_unary(f"/test.Chat/{method}")(b"", timeout=20)
        raise AssertionError(method)
    except grpc.RpcError as error:
        assert error.code().name == code, (method, error.code(), error.details())
print("stream, ticks and errors")
