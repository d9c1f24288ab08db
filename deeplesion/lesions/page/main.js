/* Fills the page and ties everything together. */
const SHORT_ID = 12;
function drawFacts() {
  const pairs = (id, rows) => get(id).append(...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  get("scan-id").textContent = data.id.slice(0, SHORT_ID);
  const format = data.facts.find((fact) => fact[0] === "Format");
  get("summary").textContent = [format ? format[1] : null, COLUMNS + " \u00d7 " + ROWS + " \u00d7 " + DEPTH + " voxels",
    data.spacing.map((value) => value.toFixed(2)).join(" \u00d7 ") + " mm"].filter(Boolean).join(" \u00b7 ");
  pairs("facts", data.facts);
  pairs("generator", data.generator);
  get("disclaimer").textContent = data.disclaimer;
  get("limits").append(...data.limits.map((text) => make("li", {}, text)));
  const count = data.warnings.length;
  get("warnings").hidden = get("warnings-link").hidden = !count;
  get("warnings-link").textContent = count === 1 ? "1 warning" : count + " warnings";
  get("warning-list").append(...data.warnings.map((text) => make("li", {}, text)));
  for (const [edge, letter] of Object.entries(data.edges)) get("edge-" + edge).textContent = letter;
}
function drawPresets() {
  get("presets").append(...WINDOWS.map(([name, level, width], index) => {
    const title = "level " + Math.round(level) + ", width " + Math.round(width) + " HU (key " + (index + 1) + ")";
    const button = make("button", { type: "button", "data-index": index, "data-window": name, title }, name.charAt(0).toUpperCase() + name.slice(1));
    button.addEventListener("click", () => setWindow(level, width));
    return button;
  }));
}
function listen() {
  stage.addEventListener("wheel", onWheel, { passive: false });
  stage.addEventListener("pointerdown", onDown);
  stage.addEventListener("pointermove", onMove);
  stage.addEventListener("pointerup", onUp);
  stage.addEventListener("pointercancel", onUp);
  /* What a finger touched last stays told. */
  stage.addEventListener("pointerleave", (event) => {
    if (event.pointerType !== "mouse") return;
    state.cursor = null;
    drawCursor();
  });
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  stage.addEventListener("dblclick", fit);
  document.addEventListener("keydown", onKey);
  get("slice").addEventListener("input", (event) => showSlice(Number(event.target.value)));
  get("score").addEventListener("input", (event) => setMinScore(Number(event.target.value)));
  for (const id of ["level", "width"]) {
    get(id).addEventListener("change", () => {
      const [level, width] = [get("level").valueAsNumber, get("width").valueAsNumber];
      setWindow(Number.isNaN(level) ? state.level : level, Number.isNaN(width) ? state.width : width);
    });
  }
  for (const id of ["show-boxes", "show-contours", "show-axes", "show-labels"]) get(id).addEventListener("change", () => redraw(false));
  for (const button of get("tools").children) {
    button.addEventListener("click", () => {
      state.tool = button.dataset.tool;
      for (const other of get("tools").children) other.setAttribute("aria-pressed", String(other === button));
    });
  }
  get("zoom-in").addEventListener("click", () => zoomTo(state.zoom * ZOOM_STEP));
  get("zoom-out").addEventListener("click", () => zoomTo(state.zoom / ZOOM_STEP));
  get("fit").addEventListener("click", fit);
  get("previous").addEventListener("click", () => jumpBy(-1));
  get("next").addEventListener("click", () => jumpBy(1));
  get("help-open").addEventListener("click", () => get("help").showModal());
  get("help-close").addEventListener("click", () => get("help").close());
  get("strip").addEventListener("click", (event) => {
    const bar = event.target.closest(".bar");
    const area = get("strip").getBoundingClientRect();
    if (bar) jump(byNumber.get(Number(bar.dataset.number)));
    else showSlice(Math.floor(((event.clientX - area.left) / area.width) * DEPTH));
  });
  new ResizeObserver(() => moveTo(state.x, state.y)).observe(stage);
}

drawFacts();
drawPresets();
drawHead();
get("slice").max = String(DEPTH - 1);
get("score").value = String(data.min_score);
listen();
setWindow(state.level, state.width);
setMinScore(data.min_score);
if (shownLesions().length) jump(shownLesions()[0]); else showSlice(state.z);
root.dataset.ready = "true";
