// A WebSocket in a browser: echoes messages of all sizes, then reports how the application closed it.
async function check() {
  const socket = new WebSocket(`wss://${location.host}/ws`, 'echo');
  socket.binaryType = 'arraybuffer';
  const next = (event) => new Promise((resolve, reject) => {
    socket.addEventListener(event, resolve, { once: true });
    socket.addEventListener(event === 'close' ? 'never' : 'close', (end) => reject(`closed with ${end.code}`), { once: true });
  });
  await next('open');
  for (const size of [0, 1, 125, 126, 65535, 65536, 1 << 20]) {
    const sent = new Uint8Array(size).map((_, at) => at * 7);
    const answer = next('message');
    socket.send(sent);
    const received = new Uint8Array((await answer).data);
    if (received.length !== size || !received.every((byte, at) => byte === sent[at])) return `${size} bytes differ`;
  }
  const answer = next('message');
  socket.send('grüße');
  if ((await answer).data !== 'grüße') return 'text differs';
  const close = next('close');
  socket.send('end');
  const { code, reason, wasClean } = await close;
  return { code, reason, wasClean, protocol: socket.protocol, extensions: socket.extensions };
}

const found = await check().catch((error) => String(error));
const page = performance.getEntriesByType('navigation')[0].nextHopProtocol;
await fetch('/result', { method: 'POST', body: JSON.stringify({ found, page }) });
