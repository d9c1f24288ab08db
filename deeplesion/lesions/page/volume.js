/* Slices: decoded when they are needed, the last ones kept. See deeplesion/lesions/pixels.py. */
const data = JSON.parse(document.getElementById("data").textContent);
const get = (id) => document.getElementById(id);
const [COLUMNS, ROWS, DEPTH] = data.size;
const SHRINK = data.pixels.shrink;
const PIXEL_COLUMNS = Math.ceil(COLUMNS / SHRINK);
const PIXEL_ROWS = Math.ceil(ROWS / SHRINK);
const CACHE_BYTES = 96e6;
const CACHED = Math.max(12, Math.floor(CACHE_BYTES / (2 * PIXEL_COLUMNS * PIXEL_ROWS)));
const cache = new Map();
const parsed = new Promise((resolve) => {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", resolve);
  else resolve();
});

function levelsOf(z) {
  if (cache.has(z)) {
    const found = cache.get(z);
    cache.delete(z);
    cache.set(z, found);
    return found;
  }
  const promise = unpack(z);
  cache.set(z, promise);
  if (cache.size > CACHED) cache.delete(cache.keys().next().value);
  return promise;
}

async function unpack(z) {
  /* The browser may still be reading the file: an element is whole when something follows it. */
  if (!get("slice-" + z) || !get("slice-" + z).nextSibling) await parsed;
  const text = atob(get("slice-" + z).textContent);
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return unfold(new Uint8Array(await new Response(stream).arrayBuffer()));
}

/* From what the predictor got wrong, low bytes before high ones, to levels of data.pixels.step HU. */
function unfold(bytes) {
  const count = PIXEL_COLUMNS * PIXEL_ROWS;
  const levels = new Int16Array(count);
  let at = 0;
  for (let y = 0; y < PIXEL_ROWS; y += 1) {
    for (let x = 0; x < PIXEL_COLUMNS; x += 1, at += 1) {
      const folded = bytes[at] | (bytes[at + count] << 8);
      levels[at] = predicted(levels, at, x, y) + ((folded >> 1) ^ -(folded & 1));
    }
  }
  return levels;
}
function predicted(levels, at, x, y) {
  if (y === 0) return x === 0 ? 0 : levels[at - 1];
  const up = levels[at - PIXEL_COLUMNS];
  if (x === 0) return up;
  const left = levels[at - 1];
  const sum = left + up - levels[at - PIXEL_COLUMNS - 1];
  const least = left < up ? left : up;
  const most = left < up ? up : left;
  return sum < least ? least : sum > most ? most : sum;
}
