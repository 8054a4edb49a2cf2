"use strict";

const element = (id) => document.getElementById(id);

// Newest first, and no more than fits.
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

// Past the browser's own cache, so that it is the proxy's that answers. The browser would add `no-cache` to
// such a request, which asks the proxy to go past its cache, too; a Cache-Control of our own prevents that.
function ask(target, headers = {}) {
  return fetch(target, { cache: "no-store", headers: { "Cache-Control": "max-age=60", ...headers } });
}

onClick("cache-ask", async () => {
  try {
    const response = await ask("/static/demo.css");
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
    button.textContent = "Listen";
    return;
  }
  events = new EventSource("/events");
  events.onmessage = (message) => log("events-log", message.data);
  events.onerror = () => log("events-log", "interrupted; the browser tries again");
  button.textContent = "Stop";
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

onClick("echo-ask", async () => {
  try {
    const response = await ask("/api/echo", { "X-Forwarded-For": "203.0.113.7" });
    element("echo-log").textContent = await response.text();
  } catch (error) {
    element("echo-log").textContent = String(error);
  }
});

onClick("filter-ask", async () => {
  for (const target of ["/.env", "/%2eenv", "/.git/config", "/x/..%2f.env"]) {
    try {
      log("filter-log", `${(await ask(target)).status}  ${target}`);
    } catch (error) {
      log("filter-log", `${target}  ${error}`);
    }
  }
});

onClick("limit-ask", async () => {
  const counts = {};
  await Promise.all(
    Array.from({ length: 400 }, async () => {
      let outcome = "failed";
      try {
        const response = await ask("/api/echo");
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
