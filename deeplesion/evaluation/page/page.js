"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const methods = data.methods;
  const names = methods.map((method) => method.name);
  const PAGE_ROWS = 50;
  const LOW_FPS = 1 / 8;
  const HIGH_FPS = 16;
  const state = { method: 0, point: 0, fps: 1, sort: "found", descending: false, page: 0, filters: {} };
  const get = (id) => document.getElementById(id);
  const root = document.documentElement;

  /* Texts come from files that others wrote: they only ever become text nodes and attributes. */
  function make(tag, attributes, ...children) {
    return fill(document.createElement(tag), attributes, children);
  }
  function svg(tag, attributes, ...children) {
    return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  }
  function fill(node, attributes, children) {
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value === true) node.setAttribute(key, "");
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value);
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return node;
  }

  const known = (value) => value !== null && value !== undefined;
  const number = (value, digits) => (known(value) ? value.toFixed(digits) : "\u2013");
  const percent = (value) => (known(value) ? (100 * value).toFixed(1) : "\u2013");
  const percents = (value) => (known(value) ? percent(value) + "\u202f%" : "\u2013");
  const thousands = (value) => value.toLocaleString("en-US");
  const score = (value) => {
    if (!known(value)) return "\u2013";
    return value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(1) : value.toFixed(3);
  };
  const plural = (count, word) => thousands(count) + " " + word + (count === 1 ? "" : word.endsWith("x") ? "es" : "s");
  const KINDS = { gender: "Sex", height: "Body height", coarse_type: "Type", ...(data.kinds || {}) };
  const titled = (kind) => KINDS[kind] || kind.charAt(0).toUpperCase() + kind.slice(1).replace(/_/g, " ");
  /* Under the heading of its kind a label need not say the kind again. */
  const labeled = (row) => {
    const title = titled(row.kind).toLowerCase() + " ";
    const label = row.label.startsWith(title) ? row.label.slice(title.length) : row.label;
    return label.replace(/<=/g, "\u2264").replace(/>=/g, "\u2265");
  };
  const color = (index) => "var(--m" + (index % 7) + ")";
  const current = () => methods[state.method];
  const threshold = () => {
    const scores = current().curve.thresholds;
    return scores.length ? scores[state.point] : Infinity;
  };
  const isFound = (value) => known(value) && value >= threshold();

  /* Marks of methods, told apart by shape as well as by color. */
  const SHAPES = ["circle", "square", "triangle", "diamond", "down", "plus", "cross"];
  function mark(index, x, y, size) {
    const r = size / 2;
    const look = { fill: color(index), "data-mark": index };
    const polygon = (points) => svg("polygon", { ...look, points: points.map(([a, b]) => (x + a * r) + "," + (y + b * r)).join(" ") });
    switch (SHAPES[index % SHAPES.length]) {
      case "circle": return svg("circle", { ...look, cx: x, cy: y, r: r });
      case "square": return polygon([[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]]);
      case "triangle": return polygon([[0, -1.1], [1.1, 0.9], [-1.1, 0.9]]);
      case "diamond": return polygon([[0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]]);
      case "down": return polygon([[0, 1.1], [1.1, -0.9], [-1.1, -0.9]]);
      case "plus": return polygon([[-0.35, -1], [0.35, -1], [0.35, -0.35], [1, -0.35], [1, 0.35], [0.35, 0.35], [0.35, 1], [-0.35, 1], [-0.35, 0.35], [-1, 0.35], [-1, -0.35], [-0.35, -0.35]]);
      default: return polygon([[-1, -0.6], [-0.6, -1], [0, -0.4], [0.6, -1], [1, -0.6], [0.4, 0], [1, 0.6], [0.6, 1], [0, 0.4], [-0.6, 1], [-1, 0.6], [-0.4, 0]]);
    }
  }
  const swatch = (index) => svg("svg", { class: "swatch", viewBox: "-6 -6 12 12", "aria-hidden": "true" }, mark(index, 0, 0, 10));

  function drawHeader() {
    get("subtitle").textContent = data.subtitle || "";
    get("subtitle").hidden = !data.subtitle;
    for (const [name, count] of Object.entries(data.counts)) {
      get("tiles").append(make("div", {}, make("dt", {}, name.replace(/_/g, " ")), make("dd", {}, thousands(count))));
    }
    get("notes").append(...(data.notes || []).map((note) => make("li", {}, note)));
    get("notes").hidden = !(data.notes || []).length;
    for (const [label, value] of data.provenance) {
      get("provenance").append(make("dt", {}, label), make("dd", {}, String(value)));
    }
    names.forEach((name, index) => get("method").append(make("option", { value: index }, name)));
    get("method-label").hidden = methods.length < 2;
    get("presets").append(make("span", {}, "FPs"));
    for (const fps of data.fps) {
      const button = make("button", { type: "button", "data-fps": fps, "aria-label": fps + " false positives per image" }, String(fps));
      button.addEventListener("click", () => goTo(fps));
      get("presets").append(button);
    }
  }

  /* The table of a paper: own results in percent with intervals, published ones among them. */
  function drawFigures() {
    const head = make("tr", {}, make("th", { scope: "col" }, "False positives per image"));
    for (const fps of data.fps) head.append(make("th", { scope: "col" }, String(fps)));
    head.append(make("th", { scope: "col", class: "mean" }, "Mean"));
    const rows = methods.map((method, index) => ({ mean: method.mean.value, row: ownRow(method, index) }));
    for (const item of data.references || []) rows.push({ mean: item.mean / 100, row: referenceRow(item) });
    rows.sort((a, b) => (known(b.mean) ? b.mean : -1) - (known(a.mean) ? a.mean : -1));
    get("figures").append(make("thead", {}, head), make("tbody", {}, rows.map((item) => item.row)));
    const notes = ["Sensitivity in %. The mean is over " + data.mean_fps.join(", ") + " false positives per image."];
    if (known(data.level)) notes.push("Below each figure its " + Math.round(100 * data.level) + "\u202f% interval.");
    if ((data.references || []).some((item) => !item.confirmed)) {
      notes.push("\u2020 not confirmed in the primary source.");
    }
    if (data.references_note) notes.push(data.references_note);
    get("figures-note").textContent = notes.join(" ");
  }
  function cell(figure, extra) {
    const interval = figure && known(figure.low) ? make("span", { class: "interval" }, percent(figure.low) + "\u2013" + percent(figure.high)) : null;
    return make("td", { class: extra }, figure ? percent(figure.value) : "\u2013", interval);
  }
  function ownRow(method, index) {
    const row = make("tr", { class: "own" }, make("td", { class: "name" }, swatch(index), method.name));
    for (const fps of data.fps) row.append(cell(method.figures[String(fps)]));
    row.append(cell(method.mean, "mean"));
    return row;
  }
  function referenceRow(item) {
    const title = item.method + (item.slices ? ", " + plural(item.slices, "slice") : "") + (item.confirmed ? "" : "\u202f\u2020");
    const row = make("tr", { class: "reference" }, make("td", { class: "name" }, title, make("span", { class: "source" }, item.source || "")));
    for (const fps of data.fps) {
      const value = (item.figures || {})[String(fps)];
      row.append(make("td", {}, known(value) ? value.toFixed(1) : "\u2013"));
    }
    row.append(make("td", { class: "mean" }, number(item.mean, 2)));
    return row;
  }

  /* FROC: sensitivity over the logarithm of false positives per image. */
  const plot = { left: 46, right: 14, top: 10, bottom: 44, width: 0, height: 0 };
  const toX = (fps) => {
    const part = Math.log2(Math.min(Math.max(fps, LOW_FPS), HIGH_FPS) / LOW_FPS) / Math.log2(HIGH_FPS / LOW_FPS);
    return plot.left + part * (plot.width - plot.left - plot.right);
  };
  const toY = (value) => plot.top + (1 - value) * (plot.height - plot.top - plot.bottom);
  const points = (x, y) => x.map((value, index) => toX(value).toFixed(1) + "," + toY(y[index]).toFixed(1));

  function drawCurves() {
    const box = get("froc-chart");
    plot.width = Math.max(box.clientWidth || 640, 280);
    plot.height = Math.round(Math.min(Math.max(plot.width * 0.56, 260), 460));
    const chart = svg("svg", { viewBox: "0 0 " + plot.width + " " + plot.height, role: "img", "aria-label": "FROC curves: sensitivity over false positives per image" });
    drawAxes(chart);
    methods.forEach((method, index) => drawBand(chart, method, index));
    methods.forEach((method, index) => drawCurve(chart, method, index));
    chart.append(svg("g", { id: "operating" }));
    box.replaceChildren(chart);
    let dragging = false;
    const move = (event) => {
      const area = chart.getBoundingClientRect();
      const x = ((event.clientX - area.left) / area.width) * plot.width;
      const part = (x - plot.left) / (plot.width - plot.left - plot.right);
      goTo(LOW_FPS * 2 ** (Math.min(Math.max(part, 0), 1) * Math.log2(HIGH_FPS / LOW_FPS)));
    };
    chart.addEventListener("pointerdown", (event) => { dragging = true; move(event); });
    chart.addEventListener("pointermove", (event) => { if (dragging && event.buttons) move(event); });
    chart.addEventListener("pointerup", () => { dragging = false; });
    drawOperatingPoint();
  }
  function drawAxes(chart) {
    for (let step = 0; step <= 10; step += 2) {
      const y = toY(step / 10);
      chart.append(svg("line", { class: "grid", x1: plot.left, x2: plot.width - plot.right, y1: y, y2: y }));
      chart.append(svg("text", { x: plot.left - 8, y: y + 4, "text-anchor": "end" }, step * 10 + "%"));
    }
    for (const fps of [LOW_FPS, 0.25, 0.5, 1, 2, 4, 8, 16]) {
      const x = toX(fps);
      chart.append(svg("line", { class: "grid", x1: x, x2: x, y1: plot.top, y2: toY(0) }));
      const label = fps === LOW_FPS ? "1/8" : fps === 0.25 ? "1/4" : fps === 0.5 ? "1/2" : String(fps);
      chart.append(svg("text", { x: x, y: toY(0) + 18, "text-anchor": "middle" }, label));
    }
    const middle = (plot.left + plot.width - plot.right) / 2;
    chart.append(svg("text", { x: middle, y: plot.height - 6, "text-anchor": "middle" }, "false positives per image"));
    chart.append(svg("line", { class: "axis", x1: plot.left, x2: plot.width - plot.right, y1: toY(0), y2: toY(0) }));
  }
  function drawBand(chart, method, index) {
    const band = method.band;
    if (!band || !band.fps.length) return;
    const kept = band.fps.map((fps, i) => i).filter((i) => known(band.low[i]) && known(band.high[i]));
    const pick = (values) => kept.map((i) => values[i]);
    const edge = points(pick(band.fps), pick(band.high)).concat(points(pick(band.fps), pick(band.low)).reverse());
    chart.append(svg("polygon", { points: edge.join(" "), fill: color(index), opacity: 0.13 }));
  }
  function drawCurve(chart, method, index) {
    const { fps, sensitivity } = method.curve;
    if (!fps.length || !known(sensitivity[0])) return;
    const line = [];
    let before = null;
    fps.forEach((value, i) => {
      if (value < LOW_FPS) before = sensitivity[i];
      else if (value <= HIGH_FPS) {
        if (!line.length) line.push(points([LOW_FPS], [before === null ? 0 : before])[0]);
        /* A staircase: level up to a false positive, rising at it. */
        line.push(points([value], [i ? sensitivity[i - 1] : 0])[0], points([value], [sensitivity[i]])[0]);
      }
    });
    const last = fps[fps.length - 1];
    if (!line.length) line.push(points([LOW_FPS], [before])[0]);
    const chosen = index === state.method;
    const look = { fill: "none", stroke: color(index), "stroke-linejoin": "round", "stroke-width": chosen ? 2.4 : 1.6, opacity: chosen ? 1 : 0.75 };
    chart.append(svg("polyline", { ...look, class: "curve", points: line.join(" ") }));
    if (last < HIGH_FPS) {
      const end = sensitivity[sensitivity.length - 1];
      chart.append(svg("polyline", { ...look, "stroke-dasharray": "2 4", points: points([Math.max(last, LOW_FPS), HIGH_FPS], [end, end]).join(" ") }));
    }
    for (const at of data.fps) {
      const figure = method.figures[String(at)];
      if (figure && known(figure.value)) chart.append(mark(index, toX(at), toY(figure.value), 9));
    }
  }
  function drawLegend() {
    get("froc-legend").replaceChildren(...methods.map((method, index) => {
      const line = svg("svg", { class: "mark", viewBox: "0 0 20 14", "aria-hidden": "true" }, svg("line", { x1: 0, x2: 20, y1: 7, y2: 7, stroke: color(index), "stroke-width": 2 }), mark(index, 10, 7, 9));
      return make("span", {}, line, method.name + ": mean " + percents(method.mean.value));
    }));
  }
  function drawOperatingPoint() {
    const place = get("operating");
    const { fps, sensitivity } = current().curve;
    if (!place || !fps.length || !known(sensitivity[state.point])) return;
    const x = toX(fps[state.point]);
    const y = toY(sensitivity[state.point]);
    const look = { stroke: "var(--accent)", fill: "none" };
    place.replaceChildren(
      svg("line", { ...look, x1: x, x2: x, y1: y, y2: toY(0), "stroke-dasharray": "4 3" }),
      svg("line", { ...look, x1: plot.left, x2: x, y1: y, y2: y, "stroke-dasharray": "4 3" }),
      svg("circle", { ...look, cx: x, cy: y, r: 8, "stroke-width": 2.5 }),
    );
  }

  /* Strata: a dot and a whisker for each method. */
  function drawStrata() {
    const kinds = [...new Set(methods.flatMap((method) => (method.strata || []).map((row) => row.kind)))];
    get("strata").hidden = !kinds.length;
    get("strata-note").textContent = data.strata_note || "Sensitivity in %; the selected detector's figures stand on the right.";
    get("strata-plots").replaceChildren(...kinds.map((kind) => {
      const all = [...new Set(methods.flatMap((method) => method.strata.filter((row) => row.kind === kind).map((row) => row.name)))];
      const scale = make("div", { class: "stratum", "aria-hidden": "true" }, make("div", { class: "scale" }, ["0", "50", "100"].map((text) => make("span", {}, text))));
      return make("div", {}, make("h3", {}, titled(kind)), all.map((name) => stratumRow(kind, name)), scale);
    }));
  }
  function stratumRow(kind, name) {
    const found = methods.map((method) => method.strata.find((row) => row.kind === kind && row.name === name));
    const first = found.find(Boolean);
    const tracks = found.map((row, index) => {
      if (!row || !known(row.value)) return null;
      const track = make("div", { class: "track", title: names[index] + ": " + percents(row.value) + (known(row.low) ? " (" + percent(row.low) + " to " + percent(row.high) + ")" : "") });
      if (known(row.low)) {
        const whisker = make("div", { class: "whisker" });
        whisker.style.left = 100 * row.low + "%";
        whisker.style.width = 100 * (row.high - row.low) + "%";
        whisker.style.background = color(index);
        track.append(whisker);
      }
      const dot = svg("svg", { class: "dot", viewBox: "-6.5 -6.5 13 13" }, mark(index, 0, 0, 10));
      dot.style.left = 100 * row.value + "%";
      track.append(dot);
      return track;
    });
    const mine = found[state.method];
    return make("div", { class: "stratum" },
      make("div", {}, labeled(first), " ", make("span", { class: "n" }, "n\u202f=\u202f" + thousands(first.lesions))),
      make("div", { class: "tracks" }, tracks),
      make("div", { class: "value" }, mine ? percent(mine.value) : "\u2013"));
  }

  function drawComparisons() {
    const comparisons = data.comparisons || [];
    get("comparisons").hidden = !comparisons.length;
    const heads = ["FPs", "Difference", "Interval", "p"].map((text) => make("th", { scope: "col" }, text));
    const bodies = comparisons.map((item) => make("tbody", {},
      make("tr", {}, make("th", { colspan: 4, scope: "rowgroup" }, item.second + " minus " + item.first, item.note ? make("span", { class: "source" }, item.note) : null)),
      item.rows.map((row) => {
        const clear = known(row.low) && (row.low > 0 || row.high < 0);
        const sign = (value) => (known(value) ? (value > 0 ? "+" : value < 0 ? "\u2212" : "") + Math.abs(100 * value).toFixed(1) : "\u2013");
        return make("tr", {}, make("td", {}, row.fps), make("td", {}, clear ? make("b", {}, sign(row.difference)) : sign(row.difference)),
          make("td", {}, sign(row.low) + " to " + sign(row.high)), make("td", {}, known(row.p) ? (row.p < 0.001 ? "< 0.001" : row.p.toFixed(3)) : "\u2013"));
      })));
    get("comparison-table").replaceChildren(make("thead", {}, make("tr", {}, heads)), ...bodies);
  }

  function drawCalibration() {
    get("calibration").hidden = !methods.some((method) => (method.calibration || []).length);
    if (get("calibration").hidden) return;
    const width = Math.max(Math.min(get("calibration-chart").clientWidth || 420, 560), 260);
    const height = Math.round(width * 0.72);
    const x = (value) => 46 + value * (width - 60);
    const y = (value) => 10 + (1 - value) * (height - 54);
    const chart = svg("svg", { viewBox: "0 0 " + width + " " + height, role: "img", "aria-label": "Share of boxes that hit a lesion over their score" });
    for (let step = 0; step <= 10; step += 2) {
      const part = step / 10;
      chart.append(svg("line", { class: "grid", x1: x(0), x2: x(1), y1: y(part), y2: y(part) }), svg("line", { class: "grid", x1: x(part), x2: x(part), y1: y(0), y2: y(1) }));
      chart.append(svg("text", { x: x(0) - 8, y: y(part) + 4, "text-anchor": "end" }, step * 10 + "%"), svg("text", { x: x(part), y: y(0) + 18, "text-anchor": "middle" }, part.toFixed(1)));
    }
    chart.append(svg("line", { class: "axis", x1: x(0), y1: y(0), x2: x(1), y2: y(1), "stroke-dasharray": "5 4" }));
    chart.append(svg("text", { x: x(0.5), y: height - 4, "text-anchor": "middle" }, "score"));
    methods.forEach((method, index) => {
      const bins = (method.calibration || []).filter((bin) => known(bin.precision) && bin.score >= 0 && bin.score <= 1);
      chart.append(svg("polyline", { fill: "none", stroke: color(index), "stroke-width": 1.4, opacity: 0.7, points: bins.map((bin) => x(bin.score) + "," + y(bin.precision)).join(" ") }));
      for (const bin of bins) {
        if (known(bin.low)) chart.append(svg("line", { x1: x(bin.score), x2: x(bin.score), y1: y(bin.low), y2: y(bin.high), stroke: color(index), "stroke-width": 1.6, opacity: 0.6 }));
        chart.append(mark(index, x(bin.score), y(bin.precision), 9));
      }
    });
    get("calibration-chart").replaceChildren(chart);
    const errors = methods.filter((method) => known(method.calibration_error)).map((method) => method.name + " " + method.calibration_error.toFixed(3));
    get("calibration-note").textContent = "Share of boxes that hit a lesion, by score." + (errors.length ? " Expected calibration error: " + errors.join(", ") + "." : "");
  }

  /* Table of lesions: only the rows of one page are in the document. */
  const COLUMNS = [
    { key: "file", label: "Key slice", left: true, of: (row) => row.file + " " + row.lesion, show: (row) => row.file + (row.lesion > 1 ? " #" + row.lesion : "") },
    { key: "type", label: "Type", left: true, stacked: true, of: (row) => row.type, show: (row) => row.type },
    { key: "long_axis", label: "Long axis, mm", of: (row) => row.long_axis, show: (row) => number(row.long_axis, 1) },
    { key: "interval", label: "Interval, mm", minor: true, of: (row) => row.interval, show: (row) => (known(row.interval) ? String(+row.interval.toFixed(2)) : "\u2013") },
    { key: "overlap", label: "Best overlap", minor: true, of: (row) => row.overlap[current().name], show: (row) => number(row.overlap[current().name], 2) },
    { key: "found", label: "Found at", of: (row) => row.found[current().name], show: (row) => (known(row.found[current().name]) ? score(row.found[current().name]) : "never") },
  ];
  const look = (column) => ["left", "minor", "stacked"].filter((name) => column[name]).join(" ");
  const chosenRows = () => {
    const text = get("search").value.trim().toLowerCase();
    return data.lesions.filter((row) => (!text || row.file.toLowerCase().includes(text))
      && Object.entries(state.filters).every(([kind, name]) => !name || (row.strata || {})[kind] === name));
  };
  function drawFilters() {
    const kinds = [...new Set(data.lesions.flatMap((row) => Object.keys(row.strata || {})))];
    for (const kind of kinds) {
      const labels = new Map();
      for (const row of methods.flatMap((method) => method.strata || [])) if (row.kind === kind) labels.set(row.name, labeled(row));
      const present = new Set(data.lesions.map((row) => (row.strata || {})[kind]).filter(known));
      for (const name of [...present].sort()) if (!labels.has(name)) labels.set(name, name);
      const options = [...labels].filter(([name]) => present.has(name)).map(([name, label]) => make("option", { value: name }, label));
      const select = make("select", { "data-kind": kind }, make("option", { value: "" }, "all"), options);
      select.addEventListener("change", () => { state.filters[kind] = select.value; state.page = 0; drawLesions(); });
      get("filters").append(make("label", { class: "field" }, make("span", {}, titled(kind)), select));
    }
    const heads = COLUMNS.map((column) => {
      const button = make("button", { type: "button", "data-sort": column.key }, column.label);
      button.addEventListener("click", () => {
        state.descending = state.sort === column.key ? !state.descending : false;
        state.sort = column.key;
        state.page = 0;
        drawLesions();
      });
      return make("th", { scope: "col", "data-column": column.key, class: look(column) }, button);
    });
    get("lesion-table").tHead.append(make("tr", {}, heads, make("th", { scope: "col" }, "Status")));
  }
  const collator = new Intl.Collator("en", { numeric: true });
  const compare = (a, b) => (typeof a === "string" ? collator.compare(a, b) : a - b);
  /* Rows that the filters leave, in order: kept from one step of the slider to the next. */
  const kept = { key: "", rows: [] };
  function orderedRows() {
    const key = JSON.stringify([state.method, state.sort, state.descending, state.filters, get("search").value]);
    if (key !== kept.key) {
      kept.rows = sorted(chosenRows());
      kept.key = key;
    }
    return kept.rows;
  }
  function sorted(rows) {
    const column = COLUMNS.find((item) => item.key === state.sort);
    const turn = state.descending ? -1 : 1;
    /* A lesion never found is below every score; what is not known is last either way. */
    const never = state.sort === "found";
    return rows.map((row) => [column.of(row), row]).sort(([a, first], [b, second]) => {
      if (!known(a) || !known(b)) {
        if (known(a) === known(b)) return (second.long_axis || 0) - (first.long_axis || 0);
        return (known(a) ? 1 : -1) * (never ? turn : -1);
      }
      return turn * compare(a, b);
    }).map((pair) => pair[1]);
  }
  function drawLesions() {
    const name = current().name;
    const rows = orderedRows();
    const found = rows.filter((row) => isFound(row.found[name])).length;
    const status = get("status").value;
    const shown = status === "all" ? rows : rows.filter((row) => isFound(row.found[name]) === (status === "found"));
    const share = rows.length ? " (" + percents(found / rows.length) + ")" : "";
    get("lesion-count").textContent = thousands(found) + " of " + plural(rows.length, "lesion") + " found at this threshold" + share
      + (status === "all" ? "." : "; " + thousands(shown.length) + " shown.");
    const pages = Math.max(Math.ceil(shown.length / PAGE_ROWS), 1);
    state.page = Math.min(state.page, pages - 1);
    get("lesion-table").tBodies[0].replaceChildren(...shown.slice(state.page * PAGE_ROWS, (state.page + 1) * PAGE_ROWS).map((row) => {
      const hit = isFound(row.found[name]);
      return make("tr", {}, COLUMNS.map((column) => make("td", { class: look(column), "data-below": column.key === "file" ? row.type : null }, column.show(row))),
        make("td", {}, make("span", { class: "state " + (hit ? "found" : "missed") }, hit ? "\u2713 found" : "\u2717 missed")));
    }));
    for (const head of get("lesion-table").tHead.rows[0].cells) {
      if (head.dataset.column === state.sort) head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    get("page").textContent = "Page " + (state.page + 1) + " of " + pages;
    get("previous").disabled = state.page === 0;
    get("next").disabled = state.page >= pages - 1;
    document.querySelector(".pager").hidden = pages < 2;
  }

  /* Gallery: raw pictures with boxes over them as SVG, shown and hidden by the slider. */
  const BOX_KINDS = { "hit": "hit", "false positive": "false positive", "duplicate": "duplicate (lesion hit before)", "lesion-found": "lesion, found", "lesion-missed": "lesion, missed" };
  const GROUPS = [["miss", "Worst misses"], ["false positive", "Strongest false positives"]];
  const variable = (kind) => "var(--" + kind.replace(" ", "-") + ")";
  function drawBoxLegend() {
    get("box-legend").replaceChildren(...Object.entries(BOX_KINDS).map(([kind, label]) => {
      const look = { x: 1.5, y: 1.5, width: 17, height: 11, fill: "#14171a", stroke: variable(kind), "stroke-width": 2 };
      if (kind.startsWith("lesion")) look["stroke-dasharray"] = "4 2.5";
      return make("span", {}, svg("svg", { class: "mark", viewBox: "0 0 20 14", "aria-hidden": "true" }, svg("rect", look)), label);
    }));
  }
  function drawGallery() {
    const mine = data.gallery.filter((item) => item.method === current().name);
    get("gallery-note").textContent = data.gallery_note || "";
    get("box-legend").hidden = get("boxes-shown").hidden = get("show-boxes").parentNode.hidden = !mine.length;
    get("gallery-body").replaceChildren(...GROUPS.map(([kind, title]) => {
      const items = mine.filter((item) => item.kind === kind);
      return items.length ? make("div", { class: "group" }, make("h3", {}, title), make("div", { class: "cards" }, items.map(card))) : null;
    }).filter(known));
  }
  function card(item) {
    const open = make("button", { type: "button", class: "open", "aria-label": "Enlarge " + item.file }, picture(item));
    open.addEventListener("click", () => view(item));
    return make("figure", { class: "shot" }, open, neighbors(item), make("figcaption", { class: "about" }, make("b", {}, item.file), about(item).map((text) => make("div", { class: "muted" }, text))));
  }
  function about(item) {
    const window = "window " + item.window.map((value) => String(+value.toFixed(1)).replace("-", "\u2212")).join(" to ") + " HU";
    const interval = known(item.interval) ? ", interval " + +item.interval.toFixed(2) + "\u00a0mm" : "";
    const overlap = number(item.overlap, 2);
    if (item.kind === "miss") {
      const size = known(item.long_axis) ? ", long axis " + number(item.long_axis, 1) + "\u00a0mm" : "";
      const fate = known(item.score) ? "found only at score " + score(item.score) : "never found; best overlap " + overlap;
      return [fate, (item.type || "type unknown") + size, window + interval];
    }
    return ["score " + score(item.score) + "; overlap with a lesion " + overlap, window + interval];
  }
  function picture(item) {
    const [x1, y1, x2, y2] = item.crop;
    const unit = (x2 - x1) / 20;
    const key = item.planes[Math.floor(item.planes.length / 2)];
    const overlay = svg("g", { class: "overlay" });
    for (const lesion of item.lesions) {
      overlay.append(rectangle(lesion.box, { class: "lesion" + (lesion.target ? " target" : ""), "data-found": known(lesion.found[current().name]) ? lesion.found[current().name] : "" }));
      if (lesion.recist) {
        const [a, b, c, d] = lesion.recist;
        for (const [p, q] of [[a, b], [c, d]]) overlay.append(svg("line", { x1: p[0] + 0.5, y1: p[1] + 0.5, x2: q[0] + 0.5, y2: q[1] + 0.5 }));
      }
    }
    for (const box of (item.boxes[current().name] || []).slice().sort((a, b) => a.score - b.score)) {
      const top = box.box[1] - unit * 0.35;
      const label = svg("text", { x: Math.min(Math.max(box.box[0], x1 + unit * 0.2), x2 - unit * 2.7), y: top - unit < y1 ? Math.min(box.box[3] + 1 + unit * 1.1, y2 - unit * 0.3) : top, "font-size": unit, fill: variable(box.kind) }, number(box.score, 2));
      const isTarget = item.kind !== "miss" && box.box.every((value, index) => value === item.target[index]);
      overlay.append(svg("g", { class: "box", "data-score": box.score }, rectangle(box.box, { stroke: variable(box.kind), class: isTarget ? "target" : null }), label));
    }
    return svg("svg", { class: "slice", viewBox: [x1, y1, x2 - x1, y2 - y1].join(" "), role: "img", "aria-label": "Key slice " + item.file },
      svg("image", { href: key.picture, x: x1, y: y1, width: x2 - x1, height: y2 - y1, preserveAspectRatio: "none" }), overlay);
  }
  function rectangle(box, attributes) {
    return svg("rect", { ...attributes, x: box[0], y: box[1], width: box[2] - box[0] + 1, height: box[3] - box[1] + 1 });
  }
  function neighbors(item) {
    const middle = Math.floor(item.planes.length / 2);
    const around = item.planes.filter((plane, index) => index !== middle);
    const stored = around.filter((plane) => plane.picture);
    const absent = stored.length < around.length
      ? make("div", { class: "absent" }, (stored.length ? "slice " + around.find((plane) => !plane.picture).slice : "neighboring slices") + " not stored") : null;
    return make("div", { class: "neighbors" }, stored.map((plane) => make("figure", {}, make("img", { src: plane.picture, alt: "slice " + plane.slice }), make("figcaption", {}, "slice " + plane.slice))), absent);
  }
  function showBoxes() {
    const limit = threshold();
    let count = 0;
    for (const box of document.querySelectorAll(".overlay .box")) {
      const shown = Number(box.dataset.score) >= limit;
      box.style.display = shown ? "" : "none";
      if (shown && !box.closest("dialog")) count += 1;
    }
    for (const lesion of document.querySelectorAll(".overlay .lesion")) {
      const found = lesion.dataset.found !== "" && Number(lesion.dataset.found) >= limit;
      lesion.setAttribute("stroke", variable(found ? "lesion-found" : "lesion-missed"));
    }
    get("boxes-shown").textContent = plural(count, "box") + " of score " + score(limit) + " or more in these pictures.";
  }
  function view(item) {
    get("viewer-title").textContent = item.file;
    get("viewer-body").replaceChildren(picture(item), neighbors(item), make("p", { class: "muted small" }, about(item).join("; ")));
    showBoxes();
    get("viewer").showModal();
  }

  /* The operating point. The slider runs over points of the curve, from low scores to high ones. */
  function goTo(fps) {
    state.fps = fps;
    state.point = pointAt(current().curve.fps, fps);
    update();
  }
  function pointAt(fps, wanted) {
    let point = 0;
    while (point + 1 < fps.length && fps[point + 1] <= wanted) point += 1;
    return point;
  }
  function update() {
    const curve = current().curve;
    const last = Math.max(curve.thresholds.length - 1, 0);
    const slider = get("threshold");
    slider.max = last;
    slider.value = last - state.point;
    slider.disabled = !curve.thresholds.length;
    const some = curve.thresholds.length > 0;
    const sensitivity = some ? curve.sensitivity[state.point] : 0;
    const fps = some ? curve.fps[state.point] : 0;
    const missed = data.lesions.filter((row) => !isFound(row.found[current().name])).length;
    get("out-threshold").textContent = some ? score(threshold()) : "no boxes";
    get("out-sensitivity").textContent = percents(sensitivity);
    get("out-fps").textContent = number(fps, 2);
    get("out-missed").textContent = thousands(missed);
    slider.setAttribute("aria-valuetext", "score " + score(threshold()) + ": sensitivity " + percents(sensitivity) + ", " + number(fps, 2) + " false positives per image");
    for (const button of document.querySelectorAll("#presets button")) {
      button.setAttribute("aria-pressed", String(some && pointAt(curve.fps, Number(button.dataset.fps)) === state.point));
    }
    drawOperatingPoint();
    showBoxes();
    drawLesions();
  }
  function choose(index) {
    state.method = index;
    get("method").value = String(index);
    drawCurves();
    drawStrata();
    drawGallery();
    goTo(state.fps);
  }

  function listen() {
    let waiting = false;
    get("threshold").addEventListener("input", (event) => {
      state.point = Number(event.target.max) - Number(event.target.value);
      state.fps = current().curve.fps[state.point];
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; update(); });
    });
    get("method").addEventListener("change", (event) => choose(Number(event.target.value)));
    get("search").addEventListener("input", () => { state.page = 0; drawLesions(); });
    get("status").addEventListener("change", () => { state.page = 0; drawLesions(); });
    get("previous").addEventListener("click", () => { state.page -= 1; drawLesions(); });
    get("next").addEventListener("click", () => { state.page += 1; drawLesions(); });
    get("show-boxes").addEventListener("change", (event) => document.body.classList.toggle("bare", !event.target.checked));
    get("viewer-close").addEventListener("click", () => get("viewer").close());
    get("viewer").addEventListener("click", (event) => { if (event.target === get("viewer")) get("viewer").close(); });
    get("theme").addEventListener("click", () => {
      const next = { auto: "light", light: "dark", dark: "auto" }[root.dataset.theme || "auto"];
      if (next === "auto") delete root.dataset.theme; else root.dataset.theme = next;
      get("theme").textContent = "Theme: " + next;
      get("theme").setAttribute("aria-label", "Color scheme: " + (next === "auto" ? "automatic" : next));
    });
    let width = window.innerWidth;
    window.addEventListener("resize", () => {
      if (window.innerWidth === width) return;
      width = window.innerWidth;
      drawCurves();
      drawCalibration();
    });
    const details = get("provenance-box");
    window.addEventListener("beforeprint", () => { details.open = true; });
  }

  drawHeader();
  drawFigures();
  drawLegend();
  drawComparisons();
  drawCalibration();
  drawFilters();
  drawBoxLegend();
  listen();
  choose(0);
  root.dataset.ready = "true";
})();
