// A client with npm ws: `node ws.mjs URL` prints the negotiated extensions and exits with 0 on success.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import WebSocket from 'ws';

const [url] = process.argv.slice(2);
const agreed = [];
for (const perMessageDeflate of [false, { threshold: 0 }]) {
  const socket = new WebSocket(url, 'echo', { perMessageDeflate, maxPayload: 64 << 20, rejectUnauthorized: false });
  await once(socket, 'open');
  assert.equal(socket.protocol, 'echo');
  agreed.push(socket.extensions);
  const echo = async (...parts) => {
    const answer = once(socket, 'message');
    parts.forEach((part, at) => socket.send(part, { fin: at === parts.length - 1 }));
    return (await answer)[0];
  };
  for (const size of [0, 1, 125, 126, 65535, 65536, 1 << 20, 4 << 20]) {
    const message = Buffer.alloc(size, 'some bytes that can be compressed');
    assert.ok((await echo(message)).equals(message), `${size} bytes`);
  }
  assert.equal((await echo('in ', 'three ', 'fragments')).toString(), 'in three fragments');
  const pong = once(socket, 'pong');
  socket.ping('there?');
  assert.equal((await pong)[0].toString(), 'there?');
  const close = once(socket, 'close');
  socket.send('end');
  const [code, reason] = await close;
  assert.deepEqual([code, reason.toString()], [4001, 'bye']);
}
console.log(JSON.stringify(agreed));
