/** What the page says of names, sizes and times. */

/** @returns {[string, string]} what a direction leads from and to: photo_to_monet is "Photo", "Monet". */
export function endsOf(direction) {
  const at = direction.indexOf("_to_");
  const ends = at < 0 ? ["before", direction] : [direction.slice(0, at), direction.slice(at + 4)];
  return ends.map((end) => end.replaceAll("_", " ").replace(/^./u, (letter) => letter.toUpperCase()));
}

/** @returns {string} a direction as people write it: photo_to_monet is "Photo to Monet". */
export function titleOf(direction) {
  return direction.includes("_to_") ? endsOf(direction).join(" to ") : endsOf(direction)[1];
}

/** @returns {string} what the painting of a file is called: holiday.jpg becomes holiday_photo_to_monet.png. */
export function paintedName(name, direction, suffix) {
  const stem = name.replace(/\.[^.]*$/u, "") || "picture";
  return `${stem}_${direction}.${suffix}`;
}

/** @returns {string} bytes for people. */
export function megabytes(bytes) {
  return (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
}

/** @returns {string} seconds for people. */
export function seconds(number) {
  return `${number.toFixed(number < 10 ? 1 : 0)} s`;
}
