// Training curves: line charts that share one cursor over steps.

const CHART = { width: 420, height: 220, left: 46, right: 10, top: 10, bottom: 24 };

// charts: {title, log, lines: [{label, color, width, step: [...], value: [...]}]}
function curves(charts) {
  const drawn = charts.filter(chart => chart.lines.length).map(lineChart);
  const move = step => drawn.forEach(chart => chart.move(step));
  for (const chart of drawn) {
    chart.plot.addEventListener("pointermove", event => move(chart.stepAt(event)));
    chart.plot.addEventListener("pointerleave", () => move(null));
    chart.plot.addEventListener("blur", () => move(null));
    chart.plot.addEventListener("keydown", event => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by) { event.preventDefault(); move(chart.neighbour(by)); }
    });
  }
  return element("div", { class: "grid three" }, drawn.map(chart => chart.card));
}

function lineChart({ title, log, lines }) {
  const scale = value => log ? Math.log10(value) : value;
  const points = lines.map(line => line.step.map((step, i) => [step, line.value[i]]).filter(([, y]) => Number.isFinite(y) && (!log || y > 0)));
  const steps = points.flat().map(([x]) => x), values = points.flat().map(([, y]) => scale(y));
  const [x0, x1] = range(steps), [y0, y1] = padded(range(values));
  const x = step => CHART.left + (step - x0) / (x1 - x0 || 1) * (CHART.width - CHART.left - CHART.right);
  const y = value => CHART.height - CHART.bottom - (scale(value) - y0) / (y1 - y0 || 1) * (CHART.height - CHART.top - CHART.bottom);

  const cursor = svg("line", { class: "cursor", y1: CHART.top, y2: CHART.height - CHART.bottom, visibility: "hidden" });
  const plot = svg("svg", { class: "chart", viewBox: `0 0 ${CHART.width} ${CHART.height}`, tabindex: 0, role: "img",
    "aria-label": `${title} over training steps; arrow keys move the read-out` },
    (log ? powers : ticks)(y0, y1).map(tick => [
      svg("line", { class: "rule", x1: CHART.left, x2: CHART.width - CHART.right, y1: y(tick), y2: y(tick) }),
      svg("text", { x: CHART.left - 6, y: y(tick) + 4, "text-anchor": "end" }, short(tick))]),
    [x0, (x0 + x1) / 2, x1].map((step, i) => svg("text", { x: x(step), y: CHART.height - 6, "text-anchor": ["start", "middle", "end"][i] }, count(Math.round(step)))),
    cursor,
    points.map((each, i) => svg("path", { d: path(each.map(([a, b]) => [x(a), y(b)])), style: `stroke:${lines[i].color}`, "stroke-width": lines[i].width })));

  const readout = element("div", { class: "readout", "aria-live": "polite" });
  let at = null;
  function move(step) {
    at = step;
    const shown = step ?? x1;
    cursor.setAttribute("visibility", step === null ? "hidden" : "visible");
    cursor.setAttribute("x1", x(shown));
    cursor.setAttribute("x2", x(shown));
    readout.replaceChildren(element("span", {}, `step ${count(nearest(points.flat(), shown)[0])}`), ...lines.map((line, i) => element("span", {},
      element("span", { class: "swatch", style: `background:${line.color}` }), `${line.label} `, element("b", {}, short(nearest(points[i], shown)[1])))));
  }
  move(null);
  const stepAt = event => {
    const box = plot.getBoundingClientRect();
    const inside = ((event.clientX - box.left) / box.width * CHART.width - CHART.left) / (CHART.width - CHART.left - CHART.right);
    return nearest(points.flat(), x0 + Math.min(1, Math.max(0, inside)) * (x1 - x0))[0];
  };
  const sorted = [...new Set(steps)].sort((a, b) => a - b);
  const neighbour = by => sorted[Math.min(sorted.length - 1, Math.max(0, (at === null ? sorted.length : sorted.indexOf(at)) + by))];
  return { card: element("section", { class: "card" }, element("h3", {}, title), plot, readout), plot, move, stepAt, neighbour };
}

// A line without axes for a table cell; `level` is drawn across.
function sparkline(values, level, title) {
  const [low, high] = range([...values, level, 0]);
  const y = value => 18 - 16 * (value - low) / (high - low || 1);
  const line = path(values.map((value, i) => [1 + 90 * i / Math.max(1, values.length - 1), y(value)]));
  return svg("svg", { class: "spark", viewBox: "0 0 92 20", role: "img", "aria-label": title },
    svg("title", {}, title), svg("line", { x1: 0, x2: 92, y1: y(level), y2: y(level) }), svg("path", { d: line }));
}

// The last stroke of no length shows a line of one point as a dot.
const path = points => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("") + (points.length ? "h0" : "");
const range = values => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
function padded([low, high]) {
  const margin = 0.04 * (high - low || Math.abs(high) || 1);
  return [low - margin, high + margin];
}

const nearest = (points, step) => points.reduce((best, point) => Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best, points[0]);

function ticks(low, high) {
  const raw = (high - low) / 4, power = 10 ** Math.floor(Math.log10(raw));
  const size = [1, 2, 2.5, 5, 10].map(factor => factor * power).find(each => each >= raw);
  const first = Math.ceil(low / size);
  return Array.from({ length: Math.floor(high / size) - first + 1 }, (_, i) => (first + i) * size);
}

// For an axis of logarithms: 1, 2, 5, 10, 20, ...
function powers(low, high) {
  const tens = Array.from({ length: Math.ceil(high) - Math.floor(low) + 1 }, (_, i) => 10 ** (Math.floor(low) + i));
  return tens.flatMap(ten => [ten, 2 * ten, 5 * ten]).filter(tick => Math.log10(tick) >= low && Math.log10(tick) <= high);
}
