"""A gRPC server without generated code: `python3 grpc_server.py`."""
from concurrent import futures

import grpc


def chat(requests, context):
    for request in requests:
        yield b"echo " + request


def ticks(request, context):
    for number in range(3):
        yield str(number).encode()


def fail(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now")


handlers = grpc.method_handlers_generic_handler(
    "test.Chat",
    {
        "Talk": grpc.stream_stream_rpc_method_handler(chat),
        "Ticks": grpc.unary_stream_rpc_method_handler(ticks),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
    },
)
server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((handlers,))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"listening 127.0.0.1:{port}", flush=True)
server.wait_for_termination()
