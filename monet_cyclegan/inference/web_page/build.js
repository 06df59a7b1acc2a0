/** Bundles the page into dist/, and copies what isn't bundled; the package's web.py adds the networks. */

import { build } from "esbuild";
import { copyFile, mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname } from "node:path";

const OUTPUT = "dist";
const OWN = ["index.html", "style.css", "icon.svg"];
// What ONNX Runtime loads itself: small without WebGPU, and with it.
const RUNTIMES = ["ort-wasm-simd-threaded", "ort-wasm-simd-threaded.asyncify"];

const common = {
  bundle: true,
  minify: true,
  outdir: OUTPUT,
  target: "es2022",
  logLevel: "warning",
  conditions: ["onnxruntime-web-use-extern-wasm"],
};

// The policy stands in index.html; the service worker sends the same along, since workers don't inherit it from there.
const html = await readFile("index.html", "utf8");
const policy = html.match(/http-equiv="Content-Security-Policy"\s+content="([^"]+)"/)[1].replace(/\s+/g, " ");

await mkdir(OUTPUT, { recursive: true });
await build({ ...common, format: "esm", entryPoints: ["main.js", "worker_wasm.js", "worker_webgpu.js"] });
await build({ ...common, format: "iife", entryPoints: ["sw.js"], define: { POLICY: JSON.stringify(policy) } });
const runtime = dirname(createRequire(import.meta.url).resolve("onnxruntime-web/ort-wasm-simd-threaded.wasm"));
const copies = RUNTIMES.flatMap((name) => [`${name}.mjs`, `${name}.wasm`]).map((name) => [`${runtime}/${name}`, name]);
for (const [from, name] of [...OWN.map((name) => [name, name]), ...copies]) {
  await copyFile(from, `${OUTPUT}/${name}`);
}
