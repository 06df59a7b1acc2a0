/** The page: what is shown when, and what happens at which touch. */

import { receiveFiles } from "./intake.js";
import { isolate } from "./isolation.js";
import { canCopy, canShare, copy, download, encoded, share } from "./keep.js";
import { finish } from "./look.js";
import { Cancelled, Painter } from "./painter.js";
import { fittedSize, readPicture, Unreadable } from "./picture.js";
import { Slider } from "./slider.js";
import { endsOf, megabytes, paintedName, seconds, titleOf } from "./words.js";

const SIZES = [256, 384, 512, 768, 1024, 1536]; // shorter sides in pixels
// What takes seconds rather than a minute, by what paints.
const COMFORTABLE = { webgpu: { mouse: 1024, touch: 768 }, wasm: { mouse: 512, touch: 384 } };
const RUNS_ON = { webgpu: "on the graphics card (WebGPU)", wasm: "on the processor (WebAssembly)" };

const element = (id) => document.getElementById(id);
const touch = matchMedia("(hover: none) and (pointer: coarse)").matches;
const page = await (await fetch("page.json")).json();
const painter = new Painter(page);
const slider = new Slider(element("stage"), element("handle"));

let direction = page.directions[0].name;
let chosenSize; // undefined until the visitor says, then pixels, or null for the picture's own
let done = null; // what hangs there: {file, photo, painted, direction, size}
let runs = 0;
let rate = null; // seconds a pixel, once something was painted

start();

function start() {
  element("unserved").remove();
  element("page").hidden = false;
  offerDirections();
  offerSamples();
  about();
  element("copy").hidden = !canCopy;
  element("share").hidden = !canShare;
  receiveFiles([element("file"), element("camera")], open, complain);
  element("strength").addEventListener("input", drawSoon);
  element("colours").addEventListener("change", drawSoon);
  element("size").addEventListener("change", resize);
  element("cancel").addEventListener("click", () => painter.cancel());
  element("choices").addEventListener("submit", (event) => event.preventDefault());
  element("png").addEventListener("click", () => save("png"));
  element("jpeg").addEventListener("click", () => save("jpg"));
  element("copy").addEventListener("click", () => handOver(element("copy"), "Copied", () => copy(element("after"))));
  element("share").addEventListener("click", () => handOver(element("share"), "Shared", shareIt));
  warmUp();
}

/** Let the network load while a picture is being chosen; unasked only where that costs the visitor nothing. */
async function warmUp() {
  const begin = () => painter.warm(direction);
  for (const id of ["file", "camera"]) {
    element(id).addEventListener("click", begin, { once: true });
  }
  addEventListener("dragenter", begin, { once: true });
  const stays = await isolate(() => runs > 0);
  if (stays && !touch && !navigator.connection?.saveData && runs === 0) {
    begin();
  }
}

function offerDirections() {
  const group = element("directions");
  group.hidden = page.directions.length < 2;
  for (const { name } of page.directions) {
    const label = document.createElement("label");
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: "direction", value: name });
    radio.checked = name === direction;
    const text = document.createElement("span");
    text.textContent = titleOf(name);
    label.append(radio, text);
    group.append(label);
  }
  group.addEventListener("change", ({ target }) => {
    direction = target.value;
    name();
    if (done || runs > 0) {
      repaint();
    }
  });
  name();
}

/** Write the direction wherever it is named. */
function name() {
  document.title = titleOf(direction);
  element("title").textContent = titleOf(direction);
}

function offerSamples() {
  element("samples").hidden = page.samples.length === 0;
  for (const [index, { file, small }] of page.samples.entries()) {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const image = Object.assign(document.createElement("img"), { src: small, alt: `Sample ${index + 1}` });
    button.append(image);
    button.addEventListener("click", async () => {
      try {
        const blob = await (await fetch(file)).blob();
        open(new File([blob], `sample_${index + 1}.jpg`, { type: blob.type }), 0);
      } catch {
        complain("The sample can’t be fetched: is the device offline?");
      }
    });
    const item = document.createElement("li");
    item.append(button);
    element("samples").querySelector("ul").append(item);
  }
}

function about() {
  const sizes = page.directions.map(({ name, bytes }) => `${titleOf(name)}, ${megabytes(bytes)} MB`);
  const lines = [
    `The networks: ${sizes.join("; ")}.`,
    page.licence === "not stated" ? "" : `Licence of the weights: ${page.licence}.`,
    page.recipe.length > 0 ? `Trained with ${page.recipe.join(" ")}.` : "",
    "They run in this browser by ONNX Runtime Web. Nothing is uploaded, and once it has painted it works offline.",
    "Made with monet_cyclegan.",
  ];
  element("about").textContent = lines.filter(Boolean).join(" ");
}

/** Take a new picture; the file may be anything. */
function open(file, more) {
  if (chosenSize === null) {
    chosenSize = undefined; // one picture's own size may be huge in the next
  }
  attempt(file, more > 0 ? [`Only the first of ${more + 1} files was taken.`] : []);
}

function resize() {
  const value = element("size").value;
  chosenSize = value === "own" ? null : Number(value);
  repaint();
}

function repaint() {
  attempt(current.file, []);
}

let current = { file: null };

/** Read, show and paint a file, as the choices stand; if that fails, what hung there before hangs there again. */
async function attempt(file, notes) {
  runs += 1;
  const run = runs;
  const superseded = () => run !== runs;
  painter.cancel();
  current = { file };
  complain("");
  const way = direction;
  try {
    const { size, photo, notes: more } = await opened(file);
    if (superseded()) {
      return;
    }
    show(photo, way);
    busy("Opening", null);
    const painted = await paintedSmallerIfNeeded(file, photo, way, size, superseded);
    if (!superseded()) {
      rate = painted.seconds / (painted.photo.width * painted.photo.height);
      done = { file, direction: way, size, ...painted };
      hang([...notes, ...more, ...painted.notes]);
      slider.glide(50);
    }
  } catch (error) {
    if (!superseded()) {
      takeBack();
      if (!(error instanceof Cancelled)) {
        complain(error instanceof Unreadable || error.kind === "fetch" ? error.message : `It failed: ${error.message}`);
      }
    }
  }
}

/** Read a file at the size that was chosen, or at one that is comfortable here. */
async function opened(file) {
  const { backend, mostPixels } = await painter.engine();
  let size = chosenSize === undefined ? COMFORTABLE[backend][touch ? "touch" : "mouse"] : chosenSize;
  const photo = await readPicture(file, size, mostPixels);
  if (size !== null && size >= Math.min(photo.fullWidth, photo.fullHeight)) {
    size = null;
  }
  const [wide] = fittedSize(photo.fullWidth, photo.fullHeight, size, Infinity);
  const notes = photo.width < wide ? ["More pixels would be too many for this browser."] : [];
  return { size, photo, notes };
}

/** Paint; where the memory doesn't suffice, at the next smaller sizes. */
async function paintedSmallerIfNeeded(file, photo, way, size, superseded) {
  try {
    return { photo, notes: [], ...(await painter.paint(way, photo, (stage) => superseded() || tell(stage))) };
  } catch (error) {
    const smaller = SIZES.findLast((side) => side < Math.min(photo.width, photo.height));
    if (error.kind !== "run" || smaller === undefined || superseded()) {
      throw error;
    }
    const { mostPixels } = await painter.engine();
    const less = await readPicture(file, smaller, mostPixels);
    const painted = await paintedSmallerIfNeeded(file, less, way, smaller, superseded);
    return { ...painted, notes: ["It was painted smaller, since this browser has no memory for more."] };
  }
}

/** Say what is being done. */
function tell({ stage, loaded, total }) {
  if (stage === "loading") {
    busy("Loading the network", loaded / total, `${megabytes(loaded)} of ${megabytes(total)} MB`);
  } else {
    busy("Painting", null);
  }
}

let clock;

/** Show the line with Cancel: a part that is done, from 0 to 1, or null and the seconds that it takes so far. */
function busy(what, part, count = "") {
  element("page").dataset.state = "busy";
  element("busy").hidden = false;
  const status = element("status");
  if (status.textContent !== what) {
    status.textContent = what;
    clearInterval(clock);
    const began = performance.now();
    const tick = () => (element("count").textContent = seconds((performance.now() - began) / 1000));
    if (part === null) {
      tick();
      clock = setInterval(tick, 100);
    }
  }
  const bar = element("bar");
  bar.classList.toggle("endless", part === null);
  if (part === null) {
    bar.removeAttribute("aria-valuenow");
  } else {
    element("count").textContent = count;
    bar.style.setProperty("--part", part);
    bar.setAttribute("aria-valuenow", Math.round(100 * part));
  }
}

function quiet() {
  clearInterval(clock);
  element("busy").hidden = true;
  element("status").textContent = "";
  element("count").textContent = "";
}

/** Put a photo on the wall that isn't painted yet. */
function show(photo, way) {
  element("welcome").hidden = true;
  element("studio").hidden = false;
  element("choices").hidden = false;
  element("choices").inert = true;
  slider.enabled = false;
  slider.move(100);
  const [from, to] = endsOf(way);
  element("before-tag").textContent = from;
  element("after-tag").textContent = to;
  element("before").setAttribute("aria-label", `Before: ${from}`);
  element("after").setAttribute("aria-label", `After: ${to}`);
  element("facts").textContent = "";
  const stage = element("stage");
  stage.style.setProperty("--width", photo.width);
  stage.style.setProperty("--height", photo.height);
  for (const id of ["before", "after"]) {
    const canvas = element(id);
    [canvas.width, canvas.height] = [photo.width, photo.height];
    contextOf(canvas).putImageData(new ImageData(photo.pixels, photo.width, photo.height), 0, 0);
  }
  offerSizes(photo);
}

/** What was painted hangs now, with what is to be said of it. */
function hang(notes) {
  const { photo, backend, threads, seconds: taken, fault } = done;
  if (element("before").width !== photo.width || element("before").height !== photo.height) {
    show(photo, done.direction); // it became smaller on the way
  }
  quiet();
  draw();
  slider.enabled = true;
  element("choices").inert = false;
  element("page").dataset.state = "done";
  offerSizes(photo);
  const of = photo.width < photo.fullWidth ? ` of ${photo.fullWidth} × ${photo.fullHeight}` : "";
  const many = backend === "wasm" ? `, ${threads === 1 ? "1 thread" : `${threads} threads`}` : "";
  const facts = [
    `${photo.width} × ${photo.height}${of} pixels, painted in ${seconds(taken)} ${RUNS_ON[backend]}${many}.`,
    fault && `The graphics card could not do it (${fault}).`,
    ...notes,
  ];
  element("facts").textContent = facts.filter(Boolean).join(" ");
}

/** After a cancel or a failure. */
function takeBack() {
  quiet();
  if (done) {
    direction = done.direction;
    document.querySelector(`[name=direction][value="${CSS.escape(direction)}"]`).checked = true;
    name();
    chosenSize = chosenSize === undefined ? undefined : done.size;
    current = { file: done.file };
    show(done.photo, direction);
    hang([]);
    slider.move(50);
  } else {
    runs = 0;
    current = { file: null };
    element("page").dataset.state = "empty";
    element("welcome").hidden = false;
    element("studio").hidden = true;
    element("choices").hidden = true;
  }
}

/** The sizes below the picture's own, and that; with what they may take, once that is known. */
async function offerSizes({ width, height, fullWidth, fullHeight }) {
  const { mostPixels } = await painter.engine();
  const own = Math.min(fullWidth, fullHeight);
  const largest = Math.min(...fittedSize(fullWidth, fullHeight, null, mostPixels));
  const shown = Math.min(width, height);
  const option = (side, value, text) => {
    const [across, down] = fittedSize(fullWidth, fullHeight, side, mostPixels);
    const about = rate === null ? "" : `, about ${seconds(Math.max(rate * across * down, 0.1))}`;
    return new Option(`${text}${about}`, value, false, side === shown);
  };
  const sizes = SIZES.filter((side) => side < largest).map((side) => option(side, side, String(side)));
  const last = largest === own ? `${own}, its own` : `${largest}, the most`;
  element("size").replaceChildren(...sizes, option(largest, "own", last));
}

const contextOf = (canvas) => canvas.getContext("2d", { willReadFrequently: true });
let drawing = 0;

function drawSoon() {
  element("strength-shown").textContent = `${element("strength").value} %`;
  cancelAnimationFrame(drawing);
  drawing = requestAnimationFrame(draw);
}

/** The painting as strength and colours want it. */
function draw() {
  if (done === null) {
    return;
  }
  const { photo, pixels } = done;
  const colour = element("colours").querySelector(":checked").value;
  const image = new ImageData(photo.width, photo.height);
  finish(photo.pixels, pixels, { strength: element("strength").value / 100, colour }, image.data);
  contextOf(element("after")).putImageData(image, 0, 0);
}

const TYPES = { png: "image/png", jpg: "image/jpeg" };

async function save(suffix) {
  draw();
  try {
    download(await encoded(element("after"), TYPES[suffix]), paintedName(done.file.name, done.direction, suffix));
  } catch (error) {
    complain(error.message);
  }
}

async function shareIt() {
  await share(await encoded(element("after"), TYPES.jpg), paintedName(done.file.name, done.direction, "jpg"));
}

/** Do what a button says, and let it say that it did. */
async function handOver(button, did, work) {
  const label = button.textContent;
  button.disabled = true;
  try {
    await work();
    button.textContent = did;
    await new Promise((resolve) => setTimeout(resolve, 1500));
  } catch (error) {
    complain(`${label} failed: ${error.message}`);
  }
  button.textContent = label;
  button.disabled = false;
}

/** One line for the visitor, which stays until the next picture; "" takes it away. */
function complain(line) {
  const alert = element("alert");
  alert.replaceChildren();
  if (line) {
    const text = document.createElement("p");
    text.textContent = line;
    const close = Object.assign(document.createElement("button"), { type: "button", textContent: "×" });
    close.setAttribute("aria-label", "Close");
    close.addEventListener("click", () => complain(""));
    alert.append(text, close);
    alert.scrollIntoView({ block: "nearest" });
  }
}
