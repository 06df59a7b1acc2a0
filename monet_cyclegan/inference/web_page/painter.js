/** Has pictures painted by a worker: on the graphics card where that works, else on the processor. */

const MOST_THREADS = 8; // more wait for memory rather than help
const LONGEST_REASON = 160; // characters
const MOST_PIXELS = { wasm: 4_000_000, webgpu: 8_000_000 };
// On the processor ONNX Runtime's memory ends at 4 GB, and holds up to six of a network's largest maps.
const WASM_MAP_BYTES = 3.5e9 / 6;

/** The visitor, or something newer, ended it. */
export class Cancelled extends Error {}

/** It couldn't be done; the kind is "load", "fetch" or "run". */
export class Failed extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

export class Painter {
  #page;
  #worker = null;
  #waiting = new Map();
  #asked = 0;
  #network = null; // {direction, backend, promise, settled} of what the worker has or is loading
  #adapter;
  #fault = "";
  #report = () => {};

  /** @param {object} page what page.json says. */
  constructor(page) {
    this.#page = page;
  }

  /** @returns {Promise<{backend: "webgpu" | "wasm", threads: number, mostPixels: number}>} what would paint now. */
  async engine() {
    this.#adapter ??= Promise.resolve(navigator.gpu?.requestAdapter()).catch(() => null);
    const adapter = this.#fault ? null : await this.#adapter;
    if (adapter) {
      const { maxStorageBufferBindingSize, maxBufferSize } = adapter.limits;
      const mostPixels = this.#fitting("webgpu", Math.min(maxStorageBufferBindingSize, maxBufferSize));
      return { backend: "webgpu", threads: 1, mostPixels };
    }
    const threads = globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS) : 1;
    return { backend: "wasm", threads, mostPixels: this.#fitting("wasm", WASM_MAP_BYTES) };
  }

  #fitting(backend, mapBytes) {
    return Math.floor(Math.min(MOST_PIXELS[backend], mapBytes / this.#page.map_bytes));
  }

  /** Begin to load what `paint` will need; whatever goes wrong is told there. */
  async warm(direction) {
    await this.#load(direction, await this.engine()).catch(() => {});
  }

  /**
   * @param {string} direction
   * @param {{pixels: Uint8ClampedArray, width: number, height: number}} picture RGBA.
   * @param {(stage: object) => void} report gets {stage: "loading", loaded, total}, then {stage: "painting"}.
   * @returns {Promise<{pixels: Uint8ClampedArray, seconds: number, backend: string, threads: number, fault: string}>}
   *   the fault is why the graphics card wasn't used, if it should have been.
   */
  async paint(direction, picture, report) {
    const engine = await this.engine();
    if (picture.width * picture.height > engine.mostPixels) {
      throw new Failed("run", "There are too many pixels.");
    }
    this.#report = report;
    try {
      await this.#load(direction, engine);
      report({ stage: "painting" });
      const { pixels, width, height } = picture;
      const painted = await this.#ask({ type: "paint", pixels, width, height });
      return { ...painted, backend: engine.backend, threads: engine.threads, fault: this.#fault };
    } catch (error) {
      if (error instanceof Cancelled) {
        throw error;
      }
      this.#end(error); // after a failure nothing in there can be relied on
      if (engine.backend === "wasm" || error.kind === "fetch") {
        throw error;
      }
      this.#fault = error.message.split("\n")[0].slice(0, LONGEST_REASON) || "it gave no reason";
      return this.paint(direction, picture, report);
    }
  }

  /** End what is under way, if anything; the next `paint` starts anew. */
  cancel() {
    if (this.#waiting.size > 0) {
      this.#end(new Cancelled());
    }
  }

  async #load(direction, { backend, threads }) {
    const now = this.#network;
    if (now?.direction === direction && now.backend === backend) {
      return now.promise;
    }
    if (now && (now.backend !== backend || !now.settled)) {
      this.#end(new Cancelled());
    }
    this.#worker ??= this.#start(backend);
    const { directions, runtimes } = this.#page;
    const network = directions.find(({ name }) => name === direction);
    const { glue, ...runtime } = runtimes[backend];
    const promise = this.#ask({ type: "load", network, runtime, glue, threads });
    const next = { direction, backend, promise, settled: false };
    this.#network = next;
    try {
      await promise;
      next.settled = true;
    } catch (error) {
      if (error.kind === "run") {
        error.kind = "load";
      }
      if (this.#network === next) {
        this.#end(error);
      }
      throw error;
    }
    return undefined;
  }

  #start(backend) {
    const worker = new Worker(new URL(`worker_${backend}.js`, import.meta.url), { type: "module" });
    worker.addEventListener("message", ({ data: { id, type, ...answer } }) => {
      if (type === "loading") {
        this.#report({ stage: "loading", ...answer });
      } else if (id === null) {
        this.#end(new Failed("run", answer.message));
      } else {
        const { resolve, reject } = this.#waiting.get(id);
        this.#waiting.delete(id);
        (type === "failed" ? reject : resolve)(type === "failed" ? new Failed(answer.kind, answer.message) : answer);
      }
    });
    worker.addEventListener("error", (event) => {
      event.preventDefault(); // it is told to the visitor
      if (worker === this.#worker) {
        this.#end(new Failed("run", event.message || "its program can’t be started"));
      }
    });
    return worker;
  }

  #ask(message) {
    this.#asked += 1;
    const id = this.#asked;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, ...message });
    });
  }

  /** Stop the worker, and have everything that waits for it fail. */
  #end(error) {
    this.#worker?.terminate();
    this.#worker = null;
    this.#network = null;
    for (const { reject } of this.#waiting.values()) {
      reject(error);
    }
    this.#waiting.clear();
  }
}
