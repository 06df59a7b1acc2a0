/** Serves the page's own files from a cache, with the headers that threads need; web.py puts self.PAGE before it. */

const { version, shell } = self.PAGE;
const PREFIX = `monet_cyclegan ${self.registration.scope}`; // of this page alone, since others may share its host
const SHELL = `${PREFIX} ${version}`;
const LARGE = `${PREFIX} large`; // large_files.js fills it
// Ports of one's own machine are used for this and that.
const BORROWED = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
const MARK = 'name="generator" content="monet_cyclegan"';
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Content-Security-Policy": POLICY,
};

let gone = false;

self.addEventListener("install", (event) => {
  const requests = shell.map((file) => new Request(file, { cache: "reload" }));
  event.waitUntil(caches.open(SHELL).then((cache) => cache.addAll(requests)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(forgetOlder().then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && request.url.startsWith(self.registration.scope) && !gone) {
    event.respondWith(request.mode === "navigate" && BORROWED ? ownOrOther(request) : answer(request));
  }
});

/** Serve the page, unless somebody else answers at this address by now: then leave it to them, and leave nothing. */
async function ownOrOther(request) {
  const response = await fetch(request, { cache: "no-cache" }).catch(() => null);
  if (response === null || (await response.clone().text()).includes(MARK)) {
    return answer(request);
  }
  gone = true;
  await Promise.all([caches.delete(SHELL), caches.delete(LARGE), self.registration.unregister()]);
  return response;
}

async function answer(request) {
  const cache = await caches.open(SHELL);
  const url = new URL(request.url);
  const name = url.pathname.replace(/\/index\.html$/u, "/");
  const found = await cache.match(new URL(name, url), { ignoreSearch: true });
  const response = found ?? (await fetch(request));
  const { body, status, statusText, headers } = response;
  if (status === 0) {
    return response; // on to another address
  }
  const changed = new Headers(headers);
  for (const [key, value] of Object.entries(HEADERS)) {
    changed.set(key, value);
  }
  return new Response(body, { status, statusText, headers: changed });
}

async function forgetOlder() {
  for (const name of await caches.keys()) {
    if (name.startsWith(`${PREFIX} `) && name !== SHELL && name !== LARGE) {
      await caches.delete(name);
    }
  }
}
