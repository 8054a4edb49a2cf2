// Prints each received request as `seen METHOD TARGET HOST LENGTH`.
const [host, port] = process.argv.slice(2);
const server = require('http').createServer((request, response) => {
  let length = 0;
  request.on('data', (data) => { length += data.length; });
  request.on('end', () => {
    const text = `${request.method} ${request.url} ${request.headers.host || '-'} ${length}`;
    console.log(`seen ${text}`);
    response.writeHead(200, { 'x-seen': '1', 'content-length': Buffer.byteLength(text) + 1 });
    response.end(text + '\n');
  });
});
server.keepAliveTimeout = 60000;
server.listen(Number(port), host);
