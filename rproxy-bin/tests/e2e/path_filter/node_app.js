// Serves a directory with Node, which joins paths by the URL class, and by string operations as many programs do.
// Usage: node_app.js FOLDER PORT
const fs = require("fs");
const http = require("http");
const path = require("path");

const [, , folder, port] = process.argv;

const readings = [
  (target) => decodeURIComponent(new URL(target, "http://a").pathname),
  (target) => decodeURIComponent(new URL("http://a" + target).pathname),
  (target) => decodeURIComponent(target.split("?")[0]),
  (target) => unescape(target.split("?")[0]),
];

http
  .createServer((request, response) => {
    for (const read of readings) {
      try {
        const body = fs.readFileSync(path.join(folder, read(request.url)));
        response.writeHead(200, { "content-length": body.length });
        return response.end(body);
      } catch {}
    }
    response.writeHead(404, { "content-length": 0 });
    response.end();
  })
  .listen(Number(port), "127.0.0.1");
