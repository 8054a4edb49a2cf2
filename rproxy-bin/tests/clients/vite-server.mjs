// The development server of Vite for a small site in `FOLDER`: `node vite-server.mjs FOLDER`.
import { createServer } from 'vite';

const [root] = process.argv.slice(2);
const server = await createServer({
  root,
  configFile: false,
  cacheDir: `${root}/.vite`,
  logLevel: 'warn',
  server: { host: '127.0.0.1', port: 0 },
});
await server.listen();
console.log(`listening 127.0.0.1:${server.httpServer.address().port}`);
