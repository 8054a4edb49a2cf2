// Serves a directory with the static files of Express, including dotfiles. Usage: express_app.js FOLDER PORT
const express = require("express");

const [, , folder, port] = process.argv;
const app = express();
app.disable("etag");
app.use(express.static(folder, { dotfiles: "allow" }));
app.listen(Number(port), "127.0.0.1");
