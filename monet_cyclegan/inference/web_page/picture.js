/** From a file to upright sRGB pixels of the size that is painted; the browser decodes, turns and converts colours. */

export const SMALLEST_SIDE = 16;
const HEIC_BRANDS = ["heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"];

/** A file that can't be painted; the message is for people. */
export class Unreadable extends Error {}

/**
 * Decode a file and shrink it; it is never enlarged.
 *
 * @param {File} file
 * @param {number | null} shortSide wished, in pixels; null for its own.
 * @param {number} mostPixels that are allowed.
 * @returns {Promise<{pixels: Uint8ClampedArray, width: number, height: number, fullWidth: number, fullHeight: number}>}
 *   RGBA, and the size of the file's picture.
 */
export async function readPicture(file, shortSide, mostPixels) {
  const bitmap = await decode(file);
  try {
    const [fullWidth, fullHeight] = [bitmap.width, bitmap.height];
    if (Math.min(fullWidth, fullHeight) < SMALLEST_SIDE) {
      const least = `${SMALLEST_SIDE} × ${SMALLEST_SIDE}`;
      throw new Unreadable(`${file.name} has only ${fullWidth} × ${fullHeight} pixels; it takes ${least} at least.`);
    }
    const [width, height] = fittedSize(fullWidth, fullHeight, shortSide, mostPixels);
    const context = shrunk(bitmap, width, height);
    const { data } = context.getImageData(0, 0, width, height);
    fillUnseen(data, width, height);
    return { pixels: data, width, height, fullWidth, fullHeight };
  } finally {
    bitmap.close();
  }
}

/** @returns {[number, number]} width and height for a shorter side, within a number of pixels. */
export function fittedSize(width, height, shortSide, mostPixels) {
  const wished = shortSide === null ? 1 : shortSide / Math.min(width, height);
  const allowed = Math.sqrt(mostPixels / (width * height));
  const scale = Math.min(1, wished, allowed);
  const round = scale === allowed ? Math.floor : Math.round; // so that it is within, indeed
  return [width, height].map((side) => Math.max(round(side * scale), SMALLEST_SIDE));
}

async function decode(file) {
  try {
    return await createImageBitmap(file);
  } catch {
    if (await isHeic(file)) {
      throw new Unreadable(`${file.name}: this browser doesn’t open HEIC. Save it as JPEG or PNG, or try Safari.`);
    }
    throw new Unreadable(`${file.name} is not a picture that this browser can open.`);
  }
}

async function isHeic(file) {
  if (/\.hei[cf]$/iu.test(file.name)) {
    return true;
  }
  const head = new TextDecoder("latin1").decode(await file.slice(4, 12).arrayBuffer().catch(() => new ArrayBuffer(0)));
  return head.startsWith("ftyp") && HEIC_BRANDS.includes(head.slice(4));
}

/** Halve until one last step is left, since browsers that look at four neighbours only would skip pixels. */
function shrunk(bitmap, width, height) {
  let [source, fromWidth, fromHeight] = [bitmap, bitmap.width, bitmap.height];
  for (;;) {
    const last = fromWidth <= 2 * width && fromHeight <= 2 * height;
    const toWidth = last ? width : Math.max(Math.ceil(fromWidth / 2), width);
    const toHeight = last ? height : Math.max(Math.ceil(fromHeight / 2), height);
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [toWidth, toHeight];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    if (context === null) {
      throw new Unreadable("This browser has no memory left for a picture of this size.");
    }
    context.imageSmoothingQuality = "high";
    context.drawImage(source, 0, 0, toWidth, toHeight);
    if (last) {
      return context;
    }
    [source, fromWidth, fromHeight] = [canvas, toWidth, toHeight];
  }
}

/**
 * Give pixels that can't be seen the mean of what is seen around them, from ever larger squares.
 *
 * They are black, which would bleed into what is seen once a network looks at it.
 */
export function fillUnseen(pixels, width, height) {
  const seen = new Float32Array(width * height);
  const colours = new Float32Array(3 * width * height);
  let count = 0;
  for (let at = 0; at < seen.length; at += 1) {
    if (pixels[4 * at + 3] > 0) {
      count += 1;
      seen[at] = 1;
      for (let channel = 0; channel < 3; channel += 1) {
        colours[3 * at + channel] = pixels[4 * at + channel];
      }
    }
  }
  if (count === 0 || count === seen.length) {
    return;
  }
  const means = spread(colours, seen, width, height);
  for (let at = 0; at < seen.length; at += 1) {
    if (seen[at] === 0) {
      for (let channel = 0; channel < 3; channel += 1) {
        pixels[4 * at + channel] = means[3 * at + channel];
      }
    }
  }
}

/** Means of sums over counts; where there is none, those of the squares of 2x2, 4x4, ... */
function spread(sums, counts, width, height) {
  const means = sums.map((sum, at) => sum / Math.max(counts[Math.floor(at / 3)], 1));
  if (counts.every((count) => count > 0)) {
    return means;
  }
  const [across, down] = [Math.ceil(width / 2), Math.ceil(height / 2)];
  const [halfSums, halfCounts] = [new Float32Array(3 * across * down), new Float32Array(across * down)];
  const above = (at) => across * (Math.floor(at / width) >> 1) + ((at % width) >> 1);
  for (let at = 0; at < counts.length; at += 1) {
    halfCounts[above(at)] += counts[at];
    for (let channel = 0; channel < 3; channel += 1) {
      halfSums[3 * above(at) + channel] += sums[3 * at + channel];
    }
  }
  const around = spread(halfSums, halfCounts, across, down);
  for (let at = 0; at < counts.length; at += 1) {
    if (counts[at] === 0) {
      means.set(around.subarray(3 * above(at), 3 * above(at) + 3), 3 * at);
    }
  }
  return means;
}
