// A backend with a page, an echo at /ws (npm ws, with permessage-deflate), and /result for the results of the page.
import { createReadStream } from 'node:fs';
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

const FILES = { '/': ['index.html', 'text/html'], '/page.js': ['page.js', 'text/javascript'] };

const server = createServer((request, response) => {
  if (request.method === 'POST' && request.url === '/result') {
    let body = '';
    request.on('data', (part) => (body += part));
    request.on('end', () => {
      console.log(`result ${body}`);
      response.writeHead(204).end();
    });
    return;
  }
  const [file, type] = FILES[request.url] ?? [];
  if (!file) return response.writeHead(404).end();
  response.writeHead(200, { 'content-type': type });
  createReadStream(new URL(`site/${file}`, import.meta.url)).pipe(response);
});

const sockets = new WebSocketServer({
  server,
  path: '/ws',
  maxPayload: 64 << 20,
  perMessageDeflate: { threshold: 0 },
  handleProtocols: (offered) => (offered.has('echo') ? 'echo' : false),
});
sockets.on('connection', (socket) => {
  socket.on('error', () => {});
  socket.on('message', (data, isBinary) => {
    // The application closes the WebSocket.
    if (!isBinary && data.toString() === 'end') return socket.close(4001, 'bye');
    socket.send(data, { binary: isBinary });
  });
});

server.listen(0, '127.0.0.1', () => console.log(`listening 127.0.0.1:${server.address().port}`));
