"""A client with PyPI websockets: `python3 websockets_client.py URL` exits with 0 on success."""

import asyncio
import ssl
import sys

import websockets


async def check(url, compression):
    context = ssl.create_default_context() if url.startswith("wss:") else None
    if context:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    options = {"compression": compression, "max_size": 64 << 20, "subprotocols": ["echo"], "ssl": context}
    async with websockets.connect(url, **options) as socket:
        assert socket.subprotocol == "echo"
        for size in (0, 1, 125, 126, 65535, 65536, 1 << 20, 4 << 20):
            message = bytes(i * 7 & 255 for i in range(256)) * (size // 256) + b"y" * (size % 256)
            await socket.send(message)
            assert await socket.recv() == message, f"{size} bytes"
        await socket.send(["in ", "three ", "fragments"])
        assert await socket.recv() == "in three fragments"
        await (await socket.ping())
        await socket.send("end")
        try:
            await socket.recv()
        except websockets.ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4001, "bye"), closed


for compression in (None, "deflate"):
    asyncio.run(check(sys.argv[1], compression))
print("websockets", websockets.__version__)
