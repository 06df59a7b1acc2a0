/** Threads need headers that few hosts send, so a service worker adds them; it also serves the page offline. */

const TRIED = "reloaded for threads";

/**
 * Install the service worker, and load the page once more under it, unless it is in use already.
 *
 * @param {() => boolean} inUse whether there is something that a reload would throw away.
 * @returns {Promise<boolean>} whether the page stays.
 */
export async function isolate(inUse) {
  const { serviceWorker } = navigator;
  if (serviceWorker === undefined) {
    return true; // http: on another host, or a private window: then it goes without threads
  }
  try {
    await serviceWorker.register("sw.js", { updateViaCache: "none" });
    if (globalThis.crossOriginIsolated) {
      sessionStorage.removeItem(TRIED);
      return true;
    }
    await serviceWorker.ready;
    if (!inUse() && sessionStorage.getItem(TRIED) === null) {
      sessionStorage.setItem(TRIED, "yes"); // whatever keeps the headers away, it isn't tried for ever
      location.reload();
      return false;
    }
  } catch {
    // Storage or service workers are switched off.
  }
  return true;
}
