// Elements, number formats and tables. Text from the payload only ever becomes a text node or an attribute, never markup.

const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.flat(Infinity).filter(known));
  return node;
}

const known = value => value !== null && value !== undefined;
const count = value => known(value) ? value.toLocaleString("en-US") : "–";
const decimal = (value, digits = 3) => known(value) ? value.toFixed(digits) : "–";
const percent = (value, digits = 1) => known(value) ? `${(100 * value).toFixed(digits)} %` : "–";
const signed = value => (value > 0 ? "+" : "−") + Math.abs(value);
const sign = value => value < 0 ? "negative" : "positive";

function short(value) {
  if (!known(value)) return "–";
  if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(2);
  for (const [size, unit] of [[1e9, " B"], [1e6, " M"], [1e3, " k"]])
    if (Math.abs(value) >= Math.max(size, 1e4)) return `${+(value / size).toPrecision(3)}${unit}`;
  return Math.abs(value) >= 100 ? count(Math.round(value)) : String(+value.toPrecision(3));
}

// Spaces and line ends at the edges of a token are part of it, so they are drawn.
const visible = text => text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replace(/^ +| +$/g, spaces => "␣".repeat(spaces.length));
// Summaries mark code with backticks.
const prose = text => text.split("`").map((part, i) => i % 2 ? element("code", {}, part) : part);
const token = text => element("span", { class: "token" }, visible(text));
const weight = value => element("span", { class: `weight ${sign(value)}` }, signed(value));

function facts(rows) {
  const shown = rows.filter(([, value]) => known(value) && value !== "");
  return element("dl", { class: "facts" }, shown.map(([term, value]) => [element("dt", {}, term), element("dd", {}, String(value))]));
}

// columns: {label, of: row => value to sort by, show: row => node or text, right, rule, title}
function table(columns, rows, { caption }) {
  const body = element("tbody");
  const fill = ordered => body.replaceChildren(...ordered.map(row => element("tr", {}, columns.map((column, i) =>
    element(i ? "td" : "th", { scope: i ? null : "row", class: classes(column) }, column.show ? column.show(row) : String(column.of(row)))))));
  const classes = column => [column.right && "right", column.rule && "rule"].filter(Boolean).join(" ") || null;
  const heads = columns.map(column => element("th", { scope: "col", class: classes(column), title: column.title ?? null },
    column.of ? element("button", { type: "button", onclick: () => sort(column) }, column.label) : column.label));
  function sort(column) {
    const head = heads[columns.indexOf(column)];
    const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", direction);
    const factor = direction === "ascending" ? 1 : -1;
    const [there, missing] = [rows.filter(row => known(column.of(row))), rows.filter(row => !known(column.of(row)))];
    const compare = (a, b) => typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
    fill([...there.sort((a, b) => factor * compare(column.of(a), column.of(b))), ...missing]);
  }
  fill(rows);
  return element("table", { "aria-label": caption }, element("thead", {}, element("tr", {}, heads)), body);
}

const tip = {
  show(event, ...content) {
    const box = document.getElementById("tip");
    box.replaceChildren(...content);
    box.hidden = false;
    const { width, height } = box.getBoundingClientRect();
    box.style.left = `${Math.max(8, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
    box.style.top = `${event.clientY + height + 24 > innerHeight ? event.clientY - height - 12 : event.clientY + 16}px`;
  },
  hide() { document.getElementById("tip").hidden = true; },
};
