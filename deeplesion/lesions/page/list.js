/* The list of lesions: sorted, filtered, and the one that is chosen. */
const known = (value) => value !== null && value !== undefined;
const number = (value, digits) => (known(value) ? value.toFixed(digits) : "\u2013");
const zs = (lesion) => lesion.slices.map((item) => item.z);
const range = (lesion) => {
  const all = zs(lesion);
  return all.length === 1 ? String(all[0]) : all[0] + "\u2013" + all[all.length - 1];
};
const length = (lesion) => lesion.long_axis.mm;
const cubic = (lesion) => lesion.volume_mm3 / 1000;
const mean = (lesion) => lesion.hu.mean;
const center = (lesion) => lesion.center.lps_mm;
const size = (lesion) => number(length(lesion), 1) + " \u00d7 " + number(lesion.short_axis.mm, 1);
/* Key, heading, text, and what is sorted by. */
const FIELDS = [
  ["number", "#", (lesion) => String(lesion.number), (lesion) => lesion.number],
  ["score", "Score", (lesion) => score(lesion.score), (lesion) => lesion.score],
  ["slices", "Slices", range, (lesion) => lesion.key],
  ["size", "Long \u00d7 short (mm)", size, length],
  ["volume", "Vol. (cm\u00b3)", (lesion) => number(cubic(lesion), cubic(lesion) < 10 ? 2 : 1), cubic],
  ["hu", "Mean HU", (lesion) => number(mean(lesion), 0), mean],
  ["position", "Position (mm)", (lesion) => compass(center(lesion).map(Math.round)).replace(/ (\d+)\.0/g, "$1").replace(/ +/g, " "), (lesion) => center(lesion)[0]],
];
/* Large is first where large matters. */
const DESCENDING = new Set(["score", "size", "volume", "hu"]);
const sorting = { key: "number", descending: false };

function sorted() {
  const value = FIELDS.find((item) => item[0] === sorting.key)[3];
  const sign = sorting.descending ? -1 : 1;
  return shownLesions().sort((a, b) => {
    const [first, second] = [value(a), value(b)];
    if (!known(first) || !known(second)) return known(second) - known(first) || a.number - b.number;
    return sign * (first - second) || a.number - b.number;
  });
}
function drawHead() {
  const cells = FIELDS.map(([key, title]) => {
    const button = make("button", { type: "button", "data-sort": key }, title);
    button.addEventListener("click", () => {
      if (sorting.key === key) sorting.descending = !sorting.descending;
      else Object.assign(sorting, { key, descending: DESCENDING.has(key) });
      drawList();
    });
    return make("th", { scope: "col", "data-column": key }, button);
  });
  get("table").tHead.replaceChildren(make("tr", {}, cells));
}
function drawList() {
  for (const cell of get("table").tHead.rows[0].cells) {
    if (cell.dataset.column === sorting.key) cell.setAttribute("aria-sort", sorting.descending ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  }
  const all = sorted();
  get("table").tBodies[0].replaceChildren(...all.map(row));
  const total = data.lesions.length;
  const noun = total === 1 ? " lesion" : " lesions";
  get("count").textContent = total === 0 ? "The detector marked no lesion in this scan." : all.length + " of " + total + noun + " shown";
  get("table").hidden = !all.length;
  for (const id of ["previous", "next"]) get(id).disabled = !all.length;
  drawDetail();
}
function row(lesion) {
  const cells = FIELDS.map(([key, , text]) => make("td", { class: key }, key === "number"
    ? make("button", { type: "button", class: "jump", "aria-label": "Lesion " + lesion.number + ", go to slice " + lesion.key }, text(lesion)) : text(lesion)));
  const line = make("tr", { "data-number": lesion.number, "aria-current": lesion.number === state.chosen ? "true" : null }, cells);
  line.addEventListener("click", () => jump(lesion));
  return line;
}
function drawDetail() {
  const lesion = byNumber.get(state.chosen);
  get("detail").hidden = !lesion || !isShown(lesion);
  if (!lesion) return;
  const pairs = [
    ["Key slice", String(lesion.key)],
    ["Measured in slice", lesion.measured_slice + ", from the " + lesion.measured_from],
    ["Long \u00d7 short axis", size(lesion) + " mm"],
    ["Area", number(lesion.area_mm2, 0) + " mm\u00b2"],
    ["Volume", number(cubic(lesion), 2) + " cm\u00b3"],
    ["HU", number(mean(lesion), 0) + (known(lesion.hu.sd) ? " \u00b1 " + number(lesion.hu.sd, 0) : "")],
    ["Center", compass(center(lesion)) + " mm"],
  ];
  if (data.stored) pairs.push(["Voxel in the file", lesion.center.stored_voxels.map((value) => Math.round(value)).join(", ")]);
  get("detail").replaceChildren(make("h3", {}, "Lesion " + lesion.number + " ", make("span", { class: "muted" }, "score " + score(lesion.score))),
    make("dl", { class: "pairs" }, pairs.map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])));
}
/* Chooses a lesion; it is marked in the list, in the strip and in the slices. */
function choose(lesion) {
  state.chosen = lesion ? lesion.number : null;
  for (const line of get("table").tBodies[0].rows) {
    if (Number(line.dataset.number) === state.chosen) {
      line.setAttribute("aria-current", "true");
      scrollTo(line);
    } else line.removeAttribute("aria-current");
  }
  drawDetail();
  drawStrip();
  redraw(false);
}
/* Within the list alone: the page stays where it is. */
function scrollTo(line) {
  const list = get("table").parentElement;
  const head = get("table").tHead.offsetHeight;
  const [top, bottom] = [line.offsetTop, line.offsetTop + line.offsetHeight];
  if (top - head < list.scrollTop) list.scrollTop = top - head;
  else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
}
function jump(lesion) {
  choose(lesion);
  if (on("follow")) setNamedWindow(lesion.window);
  const { box } = lesion.slices.find((item) => item.z === lesion.key);
  if (state.zoom > 1) moveTo((box[0] + box[2]) / 2, (box[1] + box[3]) / 2);
  showSlice(lesion.key);
}
function jumpBy(step) {
  const all = sorted();
  if (!all.length) return;
  const at = all.findIndex((lesion) => lesion.number === state.chosen);
  const next = at < 0 ? (step > 0 ? 0 : all.length - 1) : (at + step + all.length) % all.length;
  jump(all[next]);
}
function setMinScore(value) {
  state.minScore = value;
  get("out-score").textContent = score(value);
  if (known(state.chosen) && !isShown(byNumber.get(state.chosen))) state.chosen = null;
  drawList();
  drawStrip();
  redraw(false);
}
