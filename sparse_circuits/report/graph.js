// A circuit's graph, drawn once; selecting a node lights up what it reads and writes and lists both with exact weights.

const ROLES = {
  embed: "What the token embedding writes to this residual channel.",
  "attn.act_in": "What the attention sublayer reads from this residual channel, after RMSNorm.",
  "attn.q": "A query channel: its head compares it with the same channel of the keys.",
  "attn.k": "A key channel: its head compares it with the same channel of the queries.",
  "attn.v": "A value channel: what its head carries from the tokens attended to.",
  "attn.resid_delta": "What the attention sublayer writes to this residual channel.",
  "mlp.act_in": "What the MLP reads from this residual channel, after RMSNorm.",
  "mlp.post_act": "An MLP neuron, after its nonlinearity.",
  "mlp.resid_delta": "What the MLP writes to this residual channel.",
  final_resid: "The residual stream before the last norm and the unembedding.",
  logits: "The logit of one of the example's two answers.",
};

const nameOf = node => node.site === "logits" ? `logit ${visible(node.text)}` : `${node.site}[${node.channel}]`;
const labelOf = node => node.site === "logits" ? visible(node.text)
  : ["q", "k", "v"].includes(kindOf(node.site)) ? `${kindOf(node.site)}[${node.channel}]` : `[${node.channel}]`;

function graph(circuit) {
  const place = layout(circuit, circuit.shape, 1270);
  const lines = [...linkLines(circuit.edges, "edge"), ...linkLines(circuit.unembedding, "readout"), ...linkLines(circuit.residual, "residual")];
  const marks = circuit.nodes.map((node, index) => nodeMark(node, place.at[index], index));
  const picture = svg("svg", { class: "graph", width: place.width, height: place.height, viewBox: `0 0 ${place.width} ${place.height}`, role: "group",
    "aria-label": `Graph of the circuit ${circuit.task}: arrow keys walk between nodes, Enter selects, Escape clears` },
    frame(place), place.lanes.map(({ y, x }) => svg("line", { class: "lane", x1: x[0], x2: x[1], y1: y, y2: y })),
    place.boxes.map(({ label, ...box }) => svg("g", { class: "head" }, svg("rect", { class: "box", rx: 9, ...box }),
      svg("text", { x: box.x + box.width / 2, y: box.y + 15, "text-anchor": "middle" }, label))),
    lines.map(line => line.mark), marks);
  const inspector = element("div", { class: "inspect", "aria-live": "polite" });
  let selected = null;

  function linkLines(links, kind) {
    const largest = links.reduce((most, [, , w]) => Math.max(most, Math.abs(w)), 1e-12);
    return links.map(([source, target, w]) => {
      const [from, to] = [place.at[source], place.at[target]];
      const d = curve(from.x + NODE.width / 2, from.y, to.x - NODE.width / 2, to.y);
      const shape = svg("path", { d, class: `link ${kind} ${sign(w)}`, "stroke-width": kind === "residual" ? 1.5 : 0.8 + 4.2 * Math.abs(w) / largest });
      const mark = kind === "residual" ? shape : svg("g", {}, shape, svg("path", {
        d, class: "reach",
        onpointermove: event => {
          shape.classList.add("hover");
          tip.show(event, element("b", {}, signed(w)), element("div", { class: "mono" }, `${nameOf(circuit.nodes[source])} → ${nameOf(circuit.nodes[target])}`));
        },
        onpointerleave: () => { shape.classList.remove("hover"); tip.hide(); },
      }));
      return { source, target, w, kind, shape, mark };
    });
  }

  function nodeMark(node, { x, y }, index) {
    const label = labelOf(node);
    const width = Math.max(NODE.width, 7 * label.length + 10);
    const ends = ["embed", "logits"].includes(node.site);
    const mark = svg("g", { class: `node${ends ? " end" : ""}`, tabindex: index ? -1 : 0, role: "button", "aria-pressed": "false", "aria-label": nameOf(node), transform: `translate(${x} ${y})` },
      svg("rect", { x: -width / 2, y: -NODE.height / 2, width, height: NODE.height, rx: NODE.height / 2 }),
      svg("text", { "text-anchor": "middle", y: 4 }, label));
    mark.addEventListener("click", () => select(selected === index ? null : index));
    mark.addEventListener("pointermove", event => tip.show(event, element("b", {}, nameOf(node)), ...hint(node)));
    mark.addEventListener("pointerleave", tip.hide);
    mark.addEventListener("keydown", event => keyed(event, index));
    return mark;
  }

  function keyed(event, index) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) focus(nearestNode(place.at, index, step));
    else if (event.key === "Enter" || event.key === " ") select(selected === index ? null : index);
    else if (event.key === "Escape") select(null);
    else return;
    event.preventDefault();
  }

  function focus(index) {
    marks.forEach((mark, i) => mark.setAttribute("tabindex", i === index ? 0 : -1));
    marks[index].focus();
  }

  function select(index) {
    selected = index;
    const active = lines.filter(line => index !== null && (line.source === index || line.target === index));
    const near = new Set(active.flatMap(line => [line.source, line.target]).concat(index ?? []));
    picture.classList.toggle("focus", index !== null);
    lines.forEach(line => line.shape.classList.toggle("active", active.includes(line)));
    marks.forEach((mark, i) => {
      mark.classList.toggle("selected", i === index);
      mark.classList.toggle("near", near.has(i));
      mark.setAttribute("aria-pressed", i === index);
    });
    inspector.replaceChildren(index === null ? invitation() : report(index, active));
  }

  function report(index, active) {
    const node = circuit.nodes[index];
    const list = (title, links, other) => element("div", {}, element("h3", {}, `${title} (${links.length})`), links.length
      ? element("ul", {}, [...links].sort((a, b) => Math.abs(b.w ?? 0) - Math.abs(a.w ?? 0)).map(line => element("li", {},
        element("button", { type: "button", onclick: () => { select(line[other]); focus(line[other]); } }, nameOf(circuit.nodes[line[other]])),
        line.kind === "residual" ? element("span", { class: "muted" }, line.w === null ? "by token" : `stream × ${line.w}`) : weight(line.w))))
      : element("p", {}, "nothing in this circuit"));
    return element("div", { class: "grid" },
      element("div", {}, element("h3", { class: "mono" }, nameOf(node)), element("p", {}, ROLES[node.site.replace(/^\d+\./, "")]), ...hint(node)),
      list("Reads", active.filter(line => line.target === index), "source"), list("Writes", active.filter(line => line.source === index), "target"));
  }

  select(null);
  return element("div", { class: "card board" }, legend(), element("div", { class: "scroll" }, picture), inspector);
}

const invitation = () => element("p", {}, "Select a node to see what it reads and writes, with exact weights. Hover a line for its weight. Arrow keys walk between nodes, Escape clears.");

// The tokens that a residual channel stands for at the two ends of the model.
function hint(node) {
  if (!node.tokens?.length) return [];
  const title = node.site === "embed" ? "Tokens with the largest weights: " : "Tokens whose logits it moves most: ";
  return [element("div", {}, title), ...node.tokens.map(([text, w]) => element("div", {}, token(text), " ", element("span", { class: "mono" }, signed(w))))];
}

function frame({ bands, columns, height }) {
  return [
    bands.map((band, i) => i % 2 ? svg("rect", { class: "band", x: band.x, y: 0, width: band.width, height }) : null),
    bands.map(band => band.empty
      ? svg("text", { class: "head", x: band.x + band.width / 2, y: 16, "text-anchor": "end", transform: `rotate(-90 ${band.x + band.width / 2} 12) translate(0 2)` }, `${band.name} –`)
      : svg("text", { class: "title", x: band.x + band.width / 2, y: 22, "text-anchor": "middle" }, band.name)),
    columns.map(column => svg("text", { class: "head", x: column.x, y: 42, "text-anchor": "middle" }, column.label)),
  ];
}

function legend() {
  const sample = (name, text, width) => element("span", {}, svg("svg", { class: "graph sample", viewBox: "0 0 34 10", "aria-hidden": "true" },
    svg("path", { class: name, d: "M0 5H34", "stroke-width": width })), text);
  return element("div", { class: "legend" }, sample("link edge positive", "positive weight", 3), sample("link edge negative", "negative weight", 3),
    sample("lane", "residual channel: what is written is added, readers see the sum", 1.2), sample("link readout positive", "unembedding weight", 2));
}

const curve = (x1, y1, x2, y2) => `M${x1} ${y1}C${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${x2} ${y2}`;

function nearestNode(at, index, [dx, dy]) {
  const here = at[index];
  const cost = ({ x, y }) => {
    const [ahead, aside] = dx ? [(x - here.x) * dx, Math.abs(y - here.y)] : [(y - here.y) * dy, Math.abs(x - here.x)];
    return ahead > 1 ? ahead + 3 * aside : Infinity;
  };
  const best = at.reduce((found, place, i) => cost(place) < cost(at[found] ?? here) ? i : found, -1);
  return best < 0 ? index : best;
}
