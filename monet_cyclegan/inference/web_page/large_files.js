/** Networks and runtimes: fetched once, with their progress told, then kept by the browser, also for offline. */

const CACHE = `monet_cyclegan ${new URL(".", import.meta.url).href} large`; // sw.js knows this name, too

/** The network isn't there, or the server says no. */
export class Unfetched extends Error {}

/**
 * @param {{file: string, bytes: number, digest: string}} entry of page.json.
 * @param {(bytes: number) => void} report is told how many bytes more there are.
 * @returns {Promise<Uint8Array>}
 */
export async function fetchLarge({ file, bytes, digest }, report) {
  const url = new URL(`${file}?${digest}`, import.meta.url); // whatever caches by address keeps no old one
  const cache = await globalThis.caches?.open(CACHE).catch(() => undefined); // not on http:, nor in every private mode
  const kept = await cache?.match(url).catch(() => undefined);
  if (kept) {
    report(bytes);
    return new Uint8Array(await kept.arrayBuffer());
  }
  const data = await fetched(url, file, bytes, report);
  if (cache) {
    await forgetOlder(cache, url);
    await cache.put(url, new Response(data)).catch(() => {}); // a full disk: then it is fetched again next time
  }
  return data;
}

async function fetched(url, file, bytes, report) {
  let response;
  try {
    response = await fetch(url);
  } catch (error) {
    throw new Unfetched(`${file} can’t be fetched: is the device offline?`, { cause: error });
  }
  if (!response.ok) {
    throw new Unfetched(`${file} can’t be fetched: the server answers ${response.status}.`);
  }
  const data = new Uint8Array(bytes);
  const reader = response.body.getReader();
  let at = 0;
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      data.set(part.value, at); // a RangeError if there is more than page.json says
      at += part.value.length;
      report(part.value.length);
    }
  } catch (error) {
    throw new Unfetched(`${file} broke off: please try again.`, { cause: error });
  }
  if (at !== bytes) {
    throw new Unfetched(`${file} is not whole on the server: ${at} of ${bytes} bytes.`);
  }
  return data;
}

async function forgetOlder(cache, url) {
  for (const request of await cache.keys()) {
    const other = new URL(request.url);
    if (other.pathname === url.pathname && other.search !== url.search) {
      await cache.delete(request);
    }
  }
}
