"use strict";

const element = (id) => document.getElementById(id);

// The newest line first, with a limited number of lines.
function log(id, line) {
  const target = element(id);
  target.textContent = [line, ...target.textContent.split("\n")].slice(0, 6).join("\n").trim();
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

// A new URL for each visit, so that the first request is a miss.
const visit = `/static/now.txt?visit=${Date.now()}`;

onClick("cache-request", async () => {
  try {
    const response = await request(visit);
    const status = (response.headers.get("cache-status") ?? "no Cache-Status").replace("rproxy; ", "");
    const [time] = (await response.text()).match(/\d+:\d+:\d+/) ?? [""];
    log("cache-log", `${time}  ${status}`);
  } catch (error) {
    log("cache-log", String(error));
  }
});

function create(name, text = "") {
  const created = document.createElement(name);
  created.textContent = text;
  return created;
}

// Shows pairs of a term and its description.
function describe(id, pairs) {
  const rows = pairs.map(([term, description]) => {
    const row = create("div");
    row.append(create("dt", term), create("dd", description));
    return row;
  });
  element(id).replaceChildren(...rows);
}

const bytes = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const size = (count) => (count < 1000 ? `${count} B` : count < 1e6 ? `${bytes.format(count / 1e3)} kB` : `${bytes.format(count / 1e6)} MB`);

// A new query for each click, whose entry in the performance timeline has both sizes.
async function measure(target) {
  const url = `${target}?size=${performance.now()}`;
  const response = await request(url);
  await response.arrayBuffer();
  const [entry] = performance.getEntriesByName(new URL(url, location.href).href);
  return { before: entry.decodedBodySize, after: entry.encodedBodySize, coding: response.headers.get("content-encoding") };
}

onClick("compression-request", async () => {
  const rows = [];
  for (const [name, target] of [["page", "/"], ["script", "/static/demo.js"], ["styles", "/static/demo.css"], ["icon", "/static/icon.svg"]]) {
    try {
      const { before, after, coding } = await measure(target);
      const bar = create("progress");
      Object.assign(bar, { max: before, value: after });
      bar.setAttribute("aria-hidden", "true");
      const result = coding === null ? `${size(before)}, too small` : `${size(before)} → ${size(after)} ${coding}`;
      rows.push(create("span", name), create("span", result), bar);
    } catch (error) {
      rows.push(create("span", name), create("span", String(error)));
    }
  }
  element("compression-result").replaceChildren(...rows);
});

async function showTls() {
  try {
    const tls = await (await request("/api/tls")).json();
    if (tls.version === null) {
      describe("tls-result", [["Version", "none: this listener has no TLS"]]);
      return;
    }
    const { names, key_type: keyType, not_after: notAfter } = tls.certificate;
    describe("tls-result", [
      ["Version", tls.version],
      ["Cipher suite", tls.cipher_suite],
      ["Key exchange", tls.key_exchange ?? "resumed session"],
      ["ALPN", tls.alpn],
      ["Certificate", `${names.join(", ")} (${keyType})`],
      ["Valid until", new Date(notAfter).toLocaleString()],
    ]);
  } catch (error) {
    describe("tls-result", [["Error", String(error)]]);
  }
}

async function showHeaders() {
  const isShown = (name) => /^(x-content-type|x-frame|x-permitted|referrer|permissions|content-security|strict-transport|cross-origin|server|x-powered)/.test(name);
  try {
    const { headers } = await request("/");
    describe("headers-result", [...headers].filter(([name]) => isShown(name)));
  } catch (error) {
    describe("headers-result", [["Error", String(error)]]);
  }
}

showTls();
showHeaders();

const rates = Array(120).fill(0);
let previous = null;

function showMetrics(message) {
  const now = performance.now();
  const metrics = JSON.parse(message.data);
  for (const [name, value] of Object.entries(metrics)) {
    element(`metric-${name}`).textContent = name === "body_bytes" ? size(value) : value.toLocaleString("en");
  }
  if (previous !== null) {
    const rate = (metrics.requests - previous.requests) / ((now - previous.now) / 1000);
    rates.push(rate);
    rates.shift();
    const peak = Math.max(...rates);
    const points = rates.map((value, index) => `${index},${(23 - (22 * value) / Math.max(10, peak)).toFixed(2)}`);
    element("metrics-chart").firstElementChild.setAttribute("points", points.join(" "));
    element("metrics-caption").textContent = `Requests per second: ${Math.round(rate)}, peak of the last minute ${Math.round(peak)}`;
  }
  previous = { now, requests: metrics.requests };
}

let metricsEvents = null;

// A browser does not reconnect after an error status, such as 429.
function connectMetrics() {
  metricsEvents = new EventSource("/api/metrics");
  metricsEvents.onmessage = showMetrics;
  metricsEvents.onerror = () => {
    if (metricsEvents.readyState === EventSource.CLOSED) {
      setTimeout(connectMetrics, 2000);
    }
  };
}

connectMetrics();

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
    const { headers } = await response.json();
    const isShown = (name) => /^(forwarded|host|via|x-forwarded|x-real|x-request)/.test(name);
    const lines = Object.entries(headers).filter(([name]) => isShown(name));
    element("echo-log").textContent = lines.map(([name, value]) => `${name}: ${value}`).join("\n");
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
