// The client of Vite in a page: opens the hot-reload socket that the page's script names, and waits for a change:
// `node vite.mjs URL FILE`, where FILE is a module of the site.
import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { once } from 'node:events';
import WebSocket from 'ws';

const [url, file] = process.argv.slice(2);
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
const text = async (path) => {
  const response = await fetch(new URL(path, url));
  assert.equal(response.status, 200, path);
  return response.text();
};
assert.match(await text('/'), /@vite\/client/);
await text('/main.js');
const token = /wsToken = "([^"]+)"/.exec(await text('/@vite/client'))[1];
const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/?token=${token}`, 'vite-hmr', { origin: new URL(url).origin });
const heard = [];
socket.on('message', (data) => heard.push(JSON.parse(data)));
await once(socket, 'open');
while (!heard.some(({ type }) => type === 'connected')) await once(socket, 'message');
appendFileSync(file, '\n// changed\n');
while (!heard.some(({ type }) => type === 'update' || type === 'full-reload')) await once(socket, 'message');
console.log(heard.map(({ type }) => type).join(', '));
socket.close();
