// The public WebSocket fuzzing suite against an echo server directly and through the proxy, in both modes:
// `node autobahn.mjs RPROXY WSTEST [CASES]`, where WSTEST is the command of the suite and CASES are like `1.*,7.*`.
//
// The suite (PyPI autobahntestsuite 0.8.2) needs Python 2.7; README.md shows how to install it. Every case must have the
// same result through a tunnel as directly, and pass in message mode. All cases take about half an hour.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const [rproxy, wstest, cases = '*'] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), 'autobahn-'));
const running = [];

/** Starts a program; resolves with the port from its output. */
async function listening(command, args, stream, env = {}) {
  const child = spawn(command, args, { env: { PATH: process.env.PATH, ...env } });
  running.push(child);
  for await (const line of createInterface({ input: child[stream] })) {
    const port = /listening.*127\.0\.0\.1:(\d+)/.exec(line);
    child[stream].resume();
    if (port) return port[1];
  }
  throw new Error(`${command} does not listen`);
}

const direct = await listening('node', [new URL('server.mjs', import.meta.url).pathname], 'stdout');
const proxy = (settings) =>
  listening(rproxy, [], 'stderr', {
    RPROXY_LISTEN: '127.0.0.1:0',
    RPROXY_UPSTREAM: `127.0.0.1:${direct}`,
    RPROXY_RATE_LIMIT_ENABLED: 'false',
    NO_COLOR: '1',
    ...settings,
  });
const ports = { direct, tunnel: await proxy({}), message: await proxy({ RPROXY_WS_MAX_MESSAGE: '64MiB' }) };
const spec = {
  outdir: join(folder, 'reports'),
  servers: Object.entries(ports).map(([agent, port]) => ({ agent, url: `ws://127.0.0.1:${port}/ws` })),
  cases: cases.split(','),
  // Message mode does not support compression.
  'exclude-cases': [],
  'exclude-agent-cases': { message: ['12.*', '13.*'] },
};
writeFileSync(join(folder, 'spec.json'), JSON.stringify(spec));
const suite = spawn('sh', ['-c', `${wstest} -m fuzzingclient -s ${join(folder, 'spec.json')}`], { stdio: 'inherit' });
await once(suite, 'exit');
running.forEach((child) => child.kill());

const found = JSON.parse(readFileSync(join(folder, 'reports', 'index.json')));
const seen = ({ behavior, behaviorClose, remoteCloseCode }) => JSON.stringify({ behavior, behaviorClose, remoteCloseCode });
const differ = Object.keys(found.direct).filter((id) => !found.tunnel[id] || seen(found.direct[id]) !== seen(found.tunnel[id]));
const failed = Object.keys(found.message ?? {}).filter((id) => found.message[id].behavior === 'FAILED');
for (const id of differ) console.log('differs', id, found.direct[id], found.tunnel[id]);
for (const id of failed) console.log('failed', id, found.message[id]);
const count = Object.keys(found.direct).length;
console.log(`${count} cases directly, ${differ.length} differ in a tunnel; by message ${failed.length} failed. ${folder}`);
process.exit(differ.length + failed.length ? 1 : 0);
