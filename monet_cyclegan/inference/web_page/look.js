/** How much of the painting is kept, and whose colours: to the level what predict.py makes of strength= and color=. */

// The integers that Pillow converts with: 64ths of a level, half of one added, and cut off.
const table = (value) => Int16Array.from({ length: 256 }, (_, level) => Math.trunc(value(level) * 64 + 0.5));
const scaled = (factor) => table((level) => level * factor);
const centred = (factor) => table((level) => (level - 128) * factor);
const Y_R = scaled(0.299);
const Y_G = scaled(0.587);
const Y_B = scaled(0.114);
const CB_R = scaled(-0.16874);
const CB_G = scaled(-0.33126);
const CB_B = scaled(0.5);
const CR_R = CB_B;
const CR_G = scaled(-0.41869);
const CR_B = scaled(-0.08131);
const R_CR = centred(1.402);
const G_CB = centred(-0.34414);
const G_CR = centred(-0.71414);
const B_CB = centred(1.772);

/**
 * The painting with as much of the photo as is wished; all pixels are RGBA.
 *
 * @param {Uint8ClampedArray} photo whose transparency is kept.
 * @param {Uint8ClampedArray} painting of the same size.
 * @param {{strength: number, colour: "painting" | "photo"}} look strength from 0, the photo, over 1, the painting,
 *   to 2, which exaggerates it.
 * @param {Uint8ClampedArray} target takes the result.
 */
export function finish(photo, painting, { strength, colour }, target) {
  if (colour === "photo") {
    recolour(photo, painting, target);
  } else {
    target.set(painting);
  }
  if (strength !== 1) {
    blend(photo, target, strength);
  }
  for (let at = 3; at < target.length; at += 4) {
    target[at] = photo[at];
  }
}

/** Put the photo's chroma under the painting's luminance. */
function recolour(photo, painting, target) {
  for (let at = 0; at < target.length; at += 4) {
    const [r, g, b] = [photo[at], photo[at + 1], photo[at + 2]];
    const y = (Y_R[painting[at]] + Y_G[painting[at + 1]] + Y_B[painting[at + 2]]) >> 6;
    const cb = ((CB_R[r] + CB_G[g] + CB_B[b]) >> 6) + 128;
    const cr = ((CR_R[r] + CR_G[g] + CR_B[b]) >> 6) + 128;
    target[at] = y + (R_CR[cr] >> 6); // clamped by the array
    target[at + 1] = y + ((G_CB[cb] + G_CR[cr]) >> 6);
    target[at + 2] = y + (B_CB[cb] >> 6);
  }
}

/** Draw target towards the photo, or away from it, in single precision and cut off rather than rounded, as Pillow does. */
function blend(photo, target, strength) {
  const parts = Float32Array.from({ length: 511 }, (_, index) => Math.fround(strength) * (index - 255));
  for (let at = 0; at < target.length; at += 4) {
    for (let channel = at; channel < at + 3; channel += 1) {
      target[channel] = Math.trunc(Math.fround(photo[channel] + parts[target[channel] - photo[channel] + 255]));
    }
  }
}
