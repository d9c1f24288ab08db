/* What is seen: slice, window, zoom, and the slice's pixels on the canvas. */
const root = document.documentElement;
const stage = get("stage");
const canvas = get("image");
const pen = canvas.getContext("2d");
const picture = document.createElement("canvas");
picture.width = PIXEL_COLUMNS;
picture.height = PIXEL_ROWS;
const picturePen = picture.getContext("2d");
const pictureData = picturePen.createImageData(PIXEL_COLUMNS, PIXEL_ROWS);
const MAX_ZOOM = 30;
const PREFETCHED = 3;
const [STEP_X, STEP_Y] = data.spacing;
const WINDOWS = [...data.windows, ["full", (data.range[0] + data.range[1]) / 2, Math.max(data.range[1] - data.range[0], 1)]];
const RULERS_MM = [1, 2, 5, 10, 20, 50, 100, 200];

const state = {
  z: Math.floor(DEPTH / 2), shown: -1, levels: null,
  level: WINDOWS[1][1], width: WINDOWS[1][2],
  zoom: 1, x: (COLUMNS - 1) / 2, y: (ROWS - 1) / 2,
  chosen: null, minScore: 0, tool: "slices", cursor: null,
};
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/* Centers of voxels lie at whole numbers, as everywhere in this project. */
function scale() {
  const fit = Math.min(stage.clientWidth / (COLUMNS * STEP_X), stage.clientHeight / (ROWS * STEP_Y));
  return fit * state.zoom;
}
function toScreen(x, y) {
  const s = scale();
  return [stage.clientWidth / 2 + (x - state.x) * STEP_X * s, stage.clientHeight / 2 + (y - state.y) * STEP_Y * s];
}
function toVoxel(left, top) {
  const s = scale();
  return [state.x + (left - stage.clientWidth / 2) / (STEP_X * s), state.y + (top - stage.clientHeight / 2) / (STEP_Y * s)];
}
function toPatient(x, y, z) {
  return data.matrix.map((row, axis) => row[0] * x + row[1] * y + row[2] * z + data.origin[axis]);
}
function toFile(x, y, z) {
  return data.stored.map((row) => Math.round(row[0] * x + row[1] * y + row[2] * z + row[3]));
}
function huAt(x, y) {
  const column = Math.floor(x / SHRINK);
  const row = Math.floor(y / SHRINK);
  return state.levels[row * PIXEL_COLUMNS + column] * data.pixels.step;
}

/* One slice is decoded at a time; those wished for meanwhile are skipped but for the last. */
let busy = false;
async function showSlice(z) {
  state.z = clamp(Math.round(z), 0, DEPTH - 1);
  get("slice").value = String(state.z);
  if (busy) return;
  busy = true;
  try {
    while (state.shown !== state.z) {
      const wanted = state.z;
      const levels = await levelsOf(wanted);
      const forward = wanted >= state.shown ? 1 : -1;
      state.levels = levels;
      state.shown = wanted;
      get("failure").hidden = true;
      paint();
      for (let i = 1; i <= PREFETCHED; i += 1) {
        const ahead = wanted + i * forward;
        if (ahead >= 0 && ahead < DEPTH) levelsOf(ahead).catch(() => {}); /* told when it is shown */
      }
    }
  } catch (error) {
    fail(error);
  } finally {
    busy = false;
  }
}
function fail(error) {
  const old = typeof DecompressionStream === "undefined";
  get("failure").textContent = old
    ? "This browser is too old to show the slices: it needs Chrome or Edge 86, Firefox 113 or Safari 16.4, or later ones."
    : "The slices cannot be shown; the file may be damaged (" + error.message + ").";
  get("failure").hidden = false;
}

/* The window turns each level into a gray by a table. */
function paint() {
  const { levels } = state;
  if (!levels) return;
  const step = data.pixels.step;
  const low = state.level - state.width / 2;
  const factor = 255 / state.width;
  const pixels = new Uint32Array(pictureData.data.buffer);
  for (let i = 0; i < levels.length; i += 1) {
    const value = (levels[i] * step - low) * factor + 0.5;
    const gray = value < 0 ? 0 : value > 255 ? 255 : value | 0;
    pixels[i] = 0xff000000 | (gray << 16) | (gray << 8) | gray;
  }
  picturePen.putImageData(pictureData, 0, 0);
  compose();
}

/* Puts the picture where zoom and place say, and all drawings over it. */
function compose() {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(stage.clientWidth * ratio);
  const height = Math.round(stage.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const [left, top] = toScreen(-0.5, -0.5);
  const [right, bottom] = toScreen(PIXEL_COLUMNS * SHRINK - 0.5, PIXEL_ROWS * SHRINK - 0.5);
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, width, height);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(picture, left * ratio, top * ratio, (right - left) * ratio, (bottom - top) * ratio);
  drawOverlay();
  drawCorners();
}
let waiting = false;
let repaint = false;
function redraw(withWindow) {
  repaint = repaint || withWindow;
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    const all = repaint;
    repaint = false;
    if (all) paint(); else compose();
  });
}

function setWindow(level, width) {
  state.level = Math.round(clamp(level, -32768, 32767));
  state.width = Math.round(clamp(width, 1, 65535));
  get("level").value = String(state.level);
  get("width").value = String(state.width);
  for (const button of get("presets").children) {
    const [, presetLevel, presetWidth] = WINDOWS[Number(button.dataset.index)];
    const same = Math.round(presetLevel) === state.level && Math.round(presetWidth) === state.width;
    button.setAttribute("aria-pressed", String(same));
  }
  redraw(true);
}
function setNamedWindow(name) {
  const found = WINDOWS.find((item) => item[0] === name);
  setWindow(found[1], found[2]);
}

/* Zooms so that what is at a place of the screen stays there. */
function zoomTo(zoom, left = stage.clientWidth / 2, top = stage.clientHeight / 2) {
  const [x, y] = toVoxel(left, top);
  state.zoom = clamp(zoom, 1, MAX_ZOOM);
  const [newX, newY] = toVoxel(left, top);
  moveTo(state.x + x - newX, state.y + y - newY);
}
function moveTo(x, y) {
  const s = scale();
  const roomX = Math.max(0, (COLUMNS - stage.clientWidth / (STEP_X * s)) / 2);
  const roomY = Math.max(0, (ROWS - stage.clientHeight / (STEP_Y * s)) / 2);
  state.x = clamp(x, (COLUMNS - 1) / 2 - roomX, (COLUMNS - 1) / 2 + roomX);
  state.y = clamp(y, (ROWS - 1) / 2 - roomY, (ROWS - 1) / 2 + roomY);
  redraw(false);
}
function fit() {
  state.zoom = 1;
  moveTo((COLUMNS - 1) / 2, (ROWS - 1) / 2);
}

/* Numbers in the corners of the view. */
const compass = ([x, y, z]) => [["L", "R", x], ["P", "A", y], ["S", "I", z]]
  .map(([positive, negative, value]) => (value < 0 ? negative : positive) + " " + Math.abs(value).toFixed(1)).join("  ");
function drawCorners() {
  if (state.shown < 0) return;
  const middle = toPatient((COLUMNS - 1) / 2, (ROWS - 1) / 2, state.shown);
  get("where").textContent = "Slice " + state.shown + " (0\u2013" + (DEPTH - 1) + ")\n" + compass([0, 0, middle[2]]).split("  ")[2] + " mm";
  get("look").textContent = "L " + state.level + "  W " + state.width + " HU\nzoom " + state.zoom.toFixed(1) + "\u00d7";
  drawCursor();
  drawRuler();
  get("slice").setAttribute("aria-valuetext", "slice " + state.shown + ", " + (get("shown-lesions").textContent || "no lesion"));
  root.dataset.slice = String(state.shown);
  root.dataset.zoom = state.zoom.toFixed(3);
}
function drawCursor() {
  const place = get("cursor");
  if (!state.cursor || !state.levels) {
    place.textContent = "";
    return;
  }
  const [x, y] = toVoxel(...state.cursor).map(Math.round);
  if (x < 0 || y < 0 || x >= COLUMNS || y >= ROWS) {
    place.textContent = "";
    return;
  }
  const lines = [huAt(x, y) + " HU", "voxel " + [x, y, state.shown].join(", ")];
  if (data.stored) lines.push("in file " + toFile(x, y, state.shown).join(", "));
  lines.push(compass(toPatient(x, y, state.shown)) + " mm");
  place.textContent = lines.join("\n");
}
function drawRuler() {
  const s = scale();
  const longest = Math.min(stage.clientWidth / 4, 180) / s;
  const mm = RULERS_MM.filter((length) => length <= longest).pop() || RULERS_MM[0];
  get("ruler").lastElementChild.style.width = mm * s + "px";
  get("ruler").firstElementChild.textContent = mm >= 10 ? mm / 10 + " cm" : mm + " mm";
}
