// A socket.io server that echoes each event.
import { createServer } from 'node:http';
import { Server } from 'socket.io';

const server = createServer();
new Server(server).on('connection', (socket) => socket.on('echo', (...said) => said.pop()(...said)));
server.listen(0, '127.0.0.1', () => console.log(`listening 127.0.0.1:${server.address().port}`));
