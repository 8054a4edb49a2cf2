"use strict";

const element = (id) => document.getElementById(id);

// The newest line first, with a limited number of lines.
function log(id, line) {
  const target = element(id);
  target.textContent = [line, ...target.textContent.split("\n")].slice(0, 12).join("\n").trim();
}

function onClick(id, act) {
  element(id).addEventListener("click", async (event) => {
    const button = event.currentTarget;
    button.disabled = true;
    try {
      await act();
    } finally {
      button.disabled = false;
    }
  });
}

// Bypasses the browser's cache, so that the proxy's cache responds. By itself, the browser would add `no-cache`,
// which could bypass the proxy's cache, too.
function request(target, headers = {}) {
  return fetch(target, { cache: "no-store", headers: { "Cache-Control": "max-age=60", ...headers } });
}

onClick("cache-request", async () => {
  try {
    const response = await request("/static/demo.css");
    const age = response.headers.get("age");
    const status = response.headers.get("cache-status") ?? "no Cache-Status";
    log("cache-log", `${response.status}  ${status}${age === null ? "" : `  (age ${age} s)`}`);
  } catch (error) {
    log("cache-log", String(error));
  }
});

let events = null;

element("events-toggle").addEventListener("click", (event) => {
  const button = event.currentTarget;
  if (events !== null) {
    events.close();
    events = null;
    button.textContent = "Connect";
    return;
  }
  events = new EventSource("/events");
  events.onmessage = (message) => log("events-log", message.data);
  events.onerror = () => log("events-log", "interrupted, reconnecting");
  button.textContent = "Disconnect";
});

let socket = null;

function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const opened = new WebSocket(`${scheme}//${location.host}/ws`);
  const sent = [];
  opened.onmessage = (message) => {
    log("ws-log", `${message.data}  (${(performance.now() - sent.shift()).toFixed(1)} ms)`);
  };
  opened.onclose = (event) => {
    socket = null;
    log("ws-log", `closed (${event.code})`);
  };
  const open = new Promise((resolve) => {
    opened.onopen = resolve;
  });
  return {
    async send(text) {
      await open;
      sent.push(performance.now());
      opened.send(text);
    },
  };
}

element("ws-form").addEventListener("submit", (event) => {
  event.preventDefault();
  socket ??= connect();
  socket.send(element("ws-text").value);
});

onClick("echo-request", async () => {
  try {
    const response = await request("/api/echo", { "X-Forwarded-For": "203.0.113.7" });
    element("echo-log").textContent = await response.text();
  } catch (error) {
    element("echo-log").textContent = String(error);
  }
});

onClick("filter-request", async () => {
  for (const target of ["/.env", "/%2eenv", "/.git/config", "/x/..%2f.env"]) {
    try {
      log("filter-log", `${(await request(target)).status}  ${target}`);
    } catch (error) {
      log("filter-log", `${target}  ${error}`);
    }
  }
});

onClick("limit-request", async () => {
  const counts = {};
  await Promise.all(
    Array.from({ length: 400 }, async () => {
      let outcome = "failed";
      try {
        const response = await request("/api/echo");
        await response.arrayBuffer();
        outcome = response.status;
      } catch {
        // Counted as failed.
      }
      counts[outcome] = (counts[outcome] ?? 0) + 1;
    }),
  );
  log("limit-log", Object.entries(counts).map(([outcome, count]) => `${count} × ${outcome}`).join(", "));
});
