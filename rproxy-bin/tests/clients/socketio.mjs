// A socket.io client that starts with polling and upgrades to a WebSocket: `node socketio.mjs URL`.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { io } from 'socket.io-client';

const [url] = process.argv.slice(2);
const socket = io(url, { rejectUnauthorized: false, reconnection: false });
const failed = (error) => {
  console.error(error);
  process.exit(1);
};
socket.on('connect_error', failed).on('disconnect', (reason) => reason === 'io client disconnect' || failed(reason));
const first = new Promise((resolve) => socket.io.once('open', () => resolve(socket.io.engine.transport.name)));
await once(socket, 'connect');
const { engine } = socket.io;
const said = ['hello', Buffer.from([0, 255, 1]), { nested: ['grüße'] }];
assert.deepEqual(await socket.emitWithAck('echo', said), said);
if (engine.transport.name === 'polling') await once(engine, 'upgrade');
assert.deepEqual([await first, engine.transport.name], ['polling', 'websocket']);
const answers = await Promise.all(Array.from({ length: 100 }, (_, at) => socket.emitWithAck('echo', at)));
assert.deepEqual(answers, [...answers.keys()]);
const large = Buffer.alloc(500_000, 7);
assert.ok((await socket.emitWithAck('echo', large)).equals(large));
socket.disconnect();
console.log('polling, then websocket');
