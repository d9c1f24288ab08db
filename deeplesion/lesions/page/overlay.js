/* Boxes, masks, RECIST axes and labels of the lesions in the shown slice, and the strip. */
const byScore = [...data.lesions].sort((a, b) => b.score - a.score || a.number - b.number);
const byNumber = new Map(data.lesions.map((lesion) => [lesion.number, lesion]));
const isShown = (lesion) => lesion.score >= state.minScore;
const shownLesions = () => byScore.filter(isShown);
const LABEL_HEIGHT = 20;
const STRIP_LANES = 4;

/* Texts come from files that others wrote: they only ever become text nodes and attributes. */
function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === true) node.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}
const make = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const on = (id) => get(id).checked;

/* Box and outlines of a lesion in a slice; between two of its slices a box between theirs. */
function partIn(lesion, z) {
  const after = lesion.slices.findIndex((item) => item.z >= z);
  if (after < 0 || (after === 0 && lesion.slices[0].z > z)) return null;
  const last = lesion.slices[after];
  if (last.z === z) return last;
  const first = lesion.slices[after - 1];
  const share = (z - first.z) / (last.z - first.z);
  return { box: first.box.map((value, i) => value + share * (last.box[i] - value)), contours: [], between: true };
}

function drawOverlay() {
  const place = get("overlay");
  const here = shownLesions().filter((lesion) => partIn(lesion, state.shown));
  /* What is chosen, else the best score, lies on top. */
  here.reverse().sort((a, b) => (a.number === state.chosen) - (b.number === state.chosen));
  const taken = [];
  const groups = here.map((lesion) => svg("g", { class: "lesion" + (lesion.number === state.chosen ? " chosen" : ""), "data-number": lesion.number }, drawings(lesion)));
  const labels = on("show-labels") ? [...here].reverse().map((lesion) => label(lesion, taken)) : [];
  place.setAttribute("viewBox", "0 0 " + stage.clientWidth + " " + stage.clientHeight);
  place.replaceChildren(...groups, ...labels.reverse());
  get("shown-lesions").textContent = here.length === 0 ? "" : here.length === 1 ? "1 lesion in this slice" : here.length + " lesions in this slice";
}
function corners(lesion) {
  const [x1, y1, x2, y2] = partIn(lesion, state.shown).box;
  return [...toScreen(x1 - 0.5, y1 - 0.5), ...toScreen(x2 + 0.5, y2 + 0.5)];
}
function drawings(lesion) {
  const { contours, between } = partIn(lesion, state.shown);
  const parts = [];
  if (on("show-contours")) parts.push(...contours.map((edge) => svg("path", { class: "contour", d: outline(edge) })));
  if (on("show-boxes")) {
    const [left, top, right, bottom] = corners(lesion);
    parts.push(svg("rect", { class: between ? "box between" : "box", x: left, y: top, width: right - left, height: bottom - top }));
  }
  if (on("show-axes") && lesion.measured_slice === state.shown) parts.push(...axes(lesion));
  return parts;
}
function outline(edge) {
  let path = "";
  for (let i = 0; i < edge.length; i += 2) {
    const [left, top] = toScreen(edge[i], edge[i + 1]);
    path += (i ? "L" : "M") + left.toFixed(1) + " " + top.toFixed(1);
  }
  return path + "Z";
}
function axes(lesion) {
  return ["long_axis", "short_axis"].map((name) => {
    const [[x1, y1], [x2, y2]] = lesion[name].ends_px.map(([x, y]) => toScreen(x, y));
    const length = Math.hypot(x2 - x1, y2 - y1) || 1;
    const across = [(-(y2 - y1) / length) * 4, ((x2 - x1) / length) * 4];
    const tick = (x, y) => svg("line", { x1: x - across[0], y1: y - across[1], x2: x + across[0], y2: y + across[1] });
    return svg("g", { class: "axis " + name }, svg("line", { x1, y1, x2, y2 }), tick(x1, y1), tick(x2, y2));
  });
}
const score = (value) => value.toFixed(2);
function label(lesion, taken) {
  const [left, top, right, bottom] = corners(lesion);
  const text = "#" + lesion.number + "  " + score(lesion.score);
  const width = 12 + 7.6 * text.length;
  const spots = [[left, top - LABEL_HEIGHT - 3], [left, bottom + 3], [right + 4, top], [left - width - 4, top], [right - width, top - LABEL_HEIGHT - 3]]
    .map(([x, y]) => [clamp(x, 0, Math.max(stage.clientWidth - width, 0)), clamp(y, 0, Math.max(stage.clientHeight - LABEL_HEIGHT, 0))]);
  const free = ([x, y]) => taken.every(([a, b, w]) => x + width < a || a + w < x || y + LABEL_HEIGHT < b || b + LABEL_HEIGHT < y);
  const [x, y] = spots.find(free) || spots[0];
  taken.push([x, y, width]);
  return svg("g", { class: "label" + (lesion.number === state.chosen ? " chosen" : "") },
    svg("rect", { x, y, width, height: LABEL_HEIGHT, rx: 3 }), svg("text", { x: x + 6, y: y + 14.5 }, text));
}
function lesionAt(left, top) {
  const hits = shownLesions().filter((lesion) => {
    if (!partIn(lesion, state.shown)) return false;
    const [x1, y1, x2, y2] = corners(lesion);
    return left >= x1 && left <= x2 && top >= y1 && top <= y2;
  });
  const area = (lesion) => { const [x1, y1, x2, y2] = corners(lesion); return (x2 - x1) * (y2 - y1); };
  return hits.sort((a, b) => area(a) - area(b))[0];
}

/* A bar for each lesion from its first to its last slice, in as few lanes as keep them apart. */
function drawStrip() {
  const ends = [];
  const bars = [...shownLesions()].map((lesion) => {
    const zs = lesion.slices.map((item) => item.z);
    return { lesion, first: zs[0], last: zs[zs.length - 1] };
  }).sort((a, b) => a.first - b.first);
  for (const bar of bars) {
    let lane = ends.findIndex((end) => end < bar.first - 1);
    if (lane < 0) lane = ends.length < STRIP_LANES ? ends.length : ends.indexOf(Math.min(...ends));
    ends[lane] = Math.max(ends[lane] || -1, bar.last);
    bar.lane = lane;
  }
  const lanes = Math.max(ends.length, 1);
  const height = 24 / lanes;
  get("strip").setAttribute("viewBox", "0 0 " + DEPTH + " 24");
  get("strip").replaceChildren(...bars.map(({ lesion, first, last, lane }) => {
    const chosen = lesion.number === state.chosen;
    const y = lane * height + 1;
    return svg("g", { class: "bar" + (chosen ? " chosen" : ""), "data-number": lesion.number },
      svg("title", {}, "Lesion " + lesion.number + ", score " + score(lesion.score) + ", slices " + first + " to " + last),
      svg("rect", { x: first, y, width: last - first + 1, height: Math.max(height - 2, 2), "vector-effect": "non-scaling-stroke" }),
      svg("line", { x1: lesion.key + 0.5, x2: lesion.key + 0.5, y1: y, y2: y + Math.max(height - 2, 2), "vector-effect": "non-scaling-stroke" }));
  }));
}
