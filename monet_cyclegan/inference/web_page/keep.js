/** The finished picture handed over: as a file, to the clipboard, to another app. A canvas knows no EXIF data. */

const QUALITY = 0.95; // of JPEG

/** @returns {Promise<Blob>} a canvas as a file; JPEG has no transparency, so white shows. */
export function encoded(canvas, type) {
  let source = canvas;
  if (type === "image/jpeg") {
    source = document.createElement("canvas");
    [source.width, source.height] = [canvas.width, canvas.height];
    const context = source.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, source.width, source.height);
    context.drawImage(canvas, 0, 0);
  }
  return new Promise((resolve, reject) => {
    const done = (blob) => (blob ? resolve(blob) : reject(new Error("This browser can’t make a file of this size.")));
    source.toBlob(done, type, QUALITY);
  });
}

/** Let the browser save a file. */
export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // browsers may read it a little later
}

export const canCopy = "ClipboardItem" in globalThis && navigator.clipboard?.write !== undefined;

/** Put a canvas into the clipboard; the promise goes in unfinished, since Safari allows nothing after waiting. */
export function copy(canvas) {
  return navigator.clipboard.write([new ClipboardItem({ "image/png": encoded(canvas, "image/png") })]);
}

export const canShare = navigator.canShare?.({ files: [new File([], "x.png", { type: "image/png" })] }) ?? false;

/** Hand a file to another app; closing the system's dialogue is no error. */
export async function share(blob, name) {
  try {
    await navigator.share({ files: [new File([blob], name, { type: blob.type })] });
  } catch (error) {
    if (error.name !== "AbortError") {
      throw error;
    }
  }
}
