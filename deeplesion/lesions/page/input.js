/* Mouse, wheel, fingers and keys. */
const WHEEL_PX = 40;
const NOTCH_PX = 80;
const GESTURE_PX = 12;
const DRAG_PX = 4;
const DRAG_SLICE_PX = 8;
const LINE_PX = 40;
const ZOOM_STEP = 1.25;
const PAGE_SLICES = 10;
const pointers = new Map();
let wheelRest = 0;
let drag = null;
let pinch = null;

function place(event) {
  const area = stage.getBoundingClientRect();
  return [event.clientX - area.left, event.clientY - area.top];
}
function onWheel(event) {
  event.preventDefault();
  const delta = event.deltaY * (event.deltaMode === 1 ? LINE_PX : event.deltaMode === 2 ? NOTCH_PX : 1);
  if (event.ctrlKey || event.metaKey) {
    zoomTo(state.zoom * ZOOM_STEP ** (-clamp(delta, -100, 100) / 100), ...place(event));
    return;
  }
  /* A notch of a mouse is one slice; a touch pad's many small steps add up to one. */
  if (Math.abs(delta) >= NOTCH_PX) {
    wheelRest = 0;
    showSlice(state.z + Math.sign(delta));
    return;
  }
  wheelRest += delta;
  const slices = Math.trunc(wheelRest / WHEEL_PX);
  wheelRest -= slices * WHEEL_PX;
  if (slices) showSlice(state.z + slices);
}

function onDown(event) {
  stage.focus({ preventScroll: true });
  stage.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, place(event));
  state.cursor = place(event);
  drawCursor();
  if (pointers.size === 2) {
    drag = null;
    pinch = startPinch();
  } else if (pointers.size === 1) {
    const tool = event.button === 2 ? "window" : event.button === 1 || event.shiftKey ? "pan" : state.tool;
    if (event.button === 1) event.preventDefault();
    drag = startDrag(tool, event.button, place(event));
  }
}
function startDrag(tool, button, at) {
  return { tool, button, at, moved: false, z: state.z, level: state.level, width: state.width, x: state.x, y: state.y };
}
function onMove(event) {
  if (!pointers.has(event.pointerId)) {
    state.cursor = place(event);
    drawCursor();
    return;
  }
  pointers.set(event.pointerId, place(event));
  if (pinch && pointers.size === 2) movePinch();
  else if (drag) moveDrag(place(event));
  if (pointers.size === 1) {
    state.cursor = place(event);
    drawCursor();
  }
}
function moveDrag(at) {
  const [across, down] = [at[0] - drag.at[0], at[1] - drag.at[1]];
  if (!drag.moved && Math.hypot(across, down) < DRAG_PX) return;
  drag.moved = true;
  if (drag.tool === "slices") showSlice(drag.z + Math.round(down / Math.max(DRAG_SLICE_PX, Math.min(24, stage.clientHeight / DEPTH))));
  else if (drag.tool === "window") windowBy(drag, across, down);
  else moveTo(drag.x - across / (STEP_X * scale()), drag.y - down / (STEP_Y * scale()));
}
/* Wide windows change faster than narrow ones. */
function windowBy(from, across, down) {
  const speed = Math.max(from.width / 400, 0.25);
  setWindow(from.level - down * speed, from.width + across * speed);
}
function onUp(event) {
  const wasDrag = drag;
  pointers.delete(event.pointerId);
  if (pinch) {
    if (pointers.size === 0) pinch = null;
    return;
  }
  drag = null;
  if (event.type === "pointerup" && wasDrag && !wasDrag.moved && wasDrag.button === 0) {
    const lesion = lesionAt(...place(event));
    if (lesion) choose(lesion);
  }
}

/* Two fingers: together they change the window, apart they zoom. What comes first decides. */
function twoFingers() {
  const [first, second] = [...pointers.values()];
  return { middle: [(first[0] + second[0]) / 2, (first[1] + second[1]) / 2], apart: Math.hypot(first[0] - second[0], first[1] - second[1]) };
}
function startPinch() {
  return { ...twoFingers(), kind: null, level: state.level, width: state.width, zoom: state.zoom };
}
function movePinch() {
  const now = twoFingers();
  const [across, down] = [now.middle[0] - pinch.middle[0], now.middle[1] - pinch.middle[1]];
  if (!pinch.kind) {
    const [spread, moved] = [Math.abs(now.apart - pinch.apart), Math.hypot(across, down)];
    if (Math.max(spread, moved) < GESTURE_PX) return;
    pinch.kind = spread > moved ? "zoom" : "window";
    pinch.last = pinch.middle;
  }
  if (pinch.kind === "window") {
    windowBy(pinch, across, down);
    return;
  }
  const s = scale();
  moveTo(state.x - (now.middle[0] - pinch.last[0]) / (STEP_X * s), state.y - (now.middle[1] - pinch.last[1]) / (STEP_Y * s));
  pinch.last = now.middle;
  zoomTo((pinch.zoom * now.apart) / Math.max(pinch.apart, 1), ...now.middle);
}

const toggle = (...ids) => {
  const any = ids.some(on);
  for (const id of ids) get(id).checked = ids.length > 1 ? !any : !on(id);
  redraw(false);
};
const WINDOW_KEYS = {
  ArrowUp: () => setWindow(state.level + 10, state.width),
  ArrowDown: () => setWindow(state.level - 10, state.width),
  ArrowLeft: () => setWindow(state.level, state.width - 20),
  ArrowRight: () => setWindow(state.level, state.width + 20),
};
const KEYS = {
  ArrowUp: () => showSlice(state.z - 1), ArrowLeft: () => showSlice(state.z - 1),
  ArrowDown: () => showSlice(state.z + 1), ArrowRight: () => showSlice(state.z + 1),
  PageUp: () => showSlice(state.z - PAGE_SLICES), PageDown: () => showSlice(state.z + PAGE_SLICES),
  Home: () => showSlice(0), End: () => showSlice(DEPTH - 1),
  n: () => jumpBy(1), p: () => jumpBy(-1),
  "+": () => zoomTo(state.zoom * ZOOM_STEP), "=": () => zoomTo(state.zoom * ZOOM_STEP), "-": () => zoomTo(state.zoom / ZOOM_STEP),
  0: fit, f: fit,
  b: () => toggle("show-boxes"), m: () => toggle("show-contours"), r: () => toggle("show-axes"), l: () => toggle("show-labels"),
  h: () => toggle("show-boxes", "show-contours", "show-axes", "show-labels"),
  "?": () => get("help").showModal(),
};
WINDOWS.forEach(([, level, width], index) => { KEYS[index + 1] = () => setWindow(level, width); });

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || get("help").open) return;
  /* Fields and the scrolled list keep the keys that they know. */
  if (event.target.matches("input[type=number], input[type=range]:not(#slice), select, textarea")) return;
  if (event.target.matches(".scroll") && /^(Arrow|Page|Home|End)/.test(event.key)) return;
  const moves = event.shiftKey && WINDOW_KEYS[event.key];
  const action = moves || KEYS[event.key] || KEYS[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
}
