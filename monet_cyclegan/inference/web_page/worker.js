/** What runs beside the page: it loads a network, and translates pictures with it. */

import { fetchLarge, Unfetched } from "./large_files.js";

/**
 * Answer the page's messages: {type: "load", ...}, then {type: "paint", ...} as often as it likes.
 *
 * @param {typeof import("onnxruntime-web")} ort
 * @param {"wasm" | "webgpu"} provider
 */
export function serve(ort, provider) {
  let session;
  const tell = (id, answer) => postMessage({ id, ...answer });

  async function load({ id, network, runtime, glue, threads }) {
    const first = session === undefined;
    const total = network.bytes + (first ? runtime.bytes : 0);
    let loaded = 0;
    const report = (bytes) => {
      loaded += bytes;
      tell(id, { type: "loading", loaded, total });
    };
    if (first) {
      ort.env.logLevel = "error";
      ort.env.wasm.numThreads = threads;
      ort.env.wasm.wasmPaths = { mjs: new URL(glue, import.meta.url).href };
      ort.env.wasm.wasmBinary = (await fetchLarge(runtime, report)).buffer;
    }
    const data = await fetchLarge(network, report);
    // Without an arena, which grows by doubling and so ends sooner; of the log errors alone.
    const memory = { enableCpuMemArena: false, enableMemPattern: false };
    const options = { executionProviders: [provider], ...memory, logSeverityLevel: 3 };
    const last = session;
    session = await ort.InferenceSession.create(data, options);
    await last?.release(); // after the other is there, so that the graphics card stays open
    if (provider === "webgpu" && first) {
      watch(await ort.env.webgpu.device);
    }
    tell(id, { type: "loaded" });
  }

  /** Say so when the graphics card is gone, since what was asked of it may then never be answered. */
  function watch(device) {
    device?.lost.then(({ reason, message }) => {
      if (reason !== "destroyed") {
        tell(null, { type: "failed", kind: "run", message });
      }
    });
  }

  async function paint({ id, pixels, width, height }) {
    const started = performance.now();
    const images = new ort.Tensor("float32", planes(pixels), [1, 3, height, width]);
    const { translated } = await session.run({ images });
    const painted = interleaved(translated.data);
    translated.dispose();
    const seconds = (performance.now() - started) / 1000;
    postMessage({ id, type: "painted", pixels: painted, seconds }, [painted.buffer]);
  }

  addEventListener("message", async ({ data }) => {
    try {
      await (data.type === "load" ? load(data) : paint(data));
    } catch (error) {
      const message = error?.message ?? String(error);
      tell(data.id, { type: "failed", kind: error instanceof Unfetched ? "fetch" : "run", message });
    }
  });
}

/** RGBA bytes as planes of red, green and blue from 0 to 1. */
function planes(pixels) {
  const count = pixels.length / 4;
  const values = new Float32Array(3 * count);
  for (let at = 0; at < count; at += 1) {
    values[at] = pixels[4 * at] / 255;
    values[count + at] = pixels[4 * at + 1] / 255;
    values[2 * count + at] = pixels[4 * at + 2] / 255;
  }
  return values;
}

/** Planes from 0 to 1 as opaque RGBA bytes; the array rounds halves to even and clamps, as PyTorch does. */
function interleaved(values) {
  const count = values.length / 3;
  const pixels = new Uint8ClampedArray(4 * count);
  for (let at = 0; at < count; at += 1) {
    pixels[4 * at] = values[at] * 255;
    pixels[4 * at + 1] = values[count + at] * 255;
    pixels[4 * at + 2] = values[2 * count + at] * 255;
    pixels[4 * at + 3] = 255;
  }
  return pixels;
}
