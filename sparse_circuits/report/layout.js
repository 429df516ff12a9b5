// Where everything in a circuit's graph stands. Columns follow the forward pass. Each residual channel has a lane of its own,
// so that whatever is written to it can be followed straight across to whoever reads it.

const NODE = { width: 46, height: 18, pitch: 25 };
const COLUMN = { pitch: 96, empty: 30, header: 58, top: 14 };
const SUBLAYERS = { attn: [["act_in"], ["q", "k", "v"], ["resid_delta"]], mlp: [["act_in"], ["post_act"], ["resid_delta"]] };

// Returns {width, height, columns, bands, boxes, lanes, at: [{x, y}] by node}.
function layout(circuit, model, available) {
  const nodes = circuit.nodes.map((node, index) => ({ ...node, index, lane: laneOf(node, model) }));
  const { columns, bands, width } = placeColumns(nodes, model, available);
  const lanes = orderLanes(nodes, circuit.edges);
  const laneY = lane => COLUMN.header + COLUMN.top + (lanes.indexOf(lane) + 0.5) * NODE.pitch;
  const at = nodes.map(node => ({ x: columns.find(column => column.sites.includes(node.site)).x, y: node.lane ? laneY(node.lane) : null }));
  let bottom = COLUMN.header + COLUMN.top + lanes.length * NODE.pitch;
  const boxes = [];
  for (const column of columns) {
    const blocks = blocksOf(nodes.filter(node => column.sites.includes(node.site) && !node.lane), model);
    for (const block of blocks) block.wish = mean(block.nodes.flatMap(node => neighbours(node.index, circuit).map(other => at[other].y)).filter(known)) ?? bottom / 2;
    bottom = Math.max(bottom, stack(blocks, bottom));
    for (const block of blocks) {
      block.nodes.forEach((node, i) => { at[node.index].y = block.y + block.header + (i + 0.5) * NODE.pitch; });
      if (block.head !== null) boxes.push({ x: column.x - NODE.width / 2 - 8, y: block.y, width: NODE.width + 16, height: block.size - 6, label: `head ${block.head}` });
    }
  }
  const height = bottom + COLUMN.top;
  return { width, height, columns, bands, boxes, lanes: spans(nodes, circuit.residual, at), at };
}

const sublayerOf = site => site.split(".").slice(0, 2).join(".");
const kindOf = site => site.split(".").pop();

function laneOf(node, model) {
  if (!["embed", "act_in", "resid_delta", "final_resid"].includes(kindOf(node.site))) return null;
  return kindOf(node.site) === "act_in" && node.channel >= model.d_model ? `position ${node.channel}` : `channel ${node.channel}`;
}

// A sublayer without nodes shrinks to a strip that only names it.
function placeColumns(nodes, model, available) {
  const used = new Set(nodes.map(node => node.site));
  const groups = [{ name: "embedding", parts: [["embed"]] }];
  for (let layer = 0; layer < model.n_layers; layer++)
    for (const [sublayer, parts] of Object.entries(SUBLAYERS))
      groups.push({ name: `${layer}.${sublayer}`, parts: parts.map(part => part.map(kind => `${layer}.${sublayer}.${kind}`)) });
  groups.push({ name: "stream", parts: [["final_resid"]] }, { name: "answer", parts: [["logits"]] });
  for (const group of groups) group.empty = !group.parts.flat().some(site => used.has(site));

  const n_columns = groups.reduce((sum, group) => sum + (group.empty ? 0 : group.parts.length), 0);
  const n_empty = groups.filter(group => group.empty).length;
  const pitch = Math.max(COLUMN.pitch - 18, Math.min(COLUMN.pitch + 40, (available - n_empty * COLUMN.empty) / n_columns));
  const columns = [], bands = [];
  let x = 0;
  for (const group of groups) {
    const width = group.empty ? COLUMN.empty : group.parts.length * pitch;
    bands.push({ x, width, name: group.name, empty: group.empty });
    if (!group.empty) group.parts.forEach((sites, i) => columns.push({ sites, x: x + (i + 0.5) * pitch, label: sites.map(kindOf).join(" ") }));
    x += width;
  }
  return { columns, bands, width: x };
}

// Lanes that share readers and writers move together: each goes to the mean rank of what it is joined to, again and again.
function orderLanes(nodes, edges) {
  const lanes = [...new Set(nodes.filter(node => node.lane).sort((a, b) => a.channel - b.channel).map(node => node.lane))];
  const rank = new Map(lanes.map((lane, i) => [lane, i]));
  const inner = new Map(nodes.filter(node => !node.lane).map(node => [node.index, 0]));
  const value = index => nodes[index].lane ? rank.get(nodes[index].lane) : inner.get(index);
  const pull = (key, own) => {
    let [sum, total] = [0, 0];
    for (const [source, target, w] of edges)
      for (const [here, there] of [[source, target], [target, source]])
        if (key(here)) { sum += Math.abs(w) * value(there); total += Math.abs(w); }
    return total ? sum / total : own;
  };
  for (let round = 0; round < 12; round++) {
    for (const index of inner.keys()) inner.set(index, pull(each => each === index, inner.get(index)));
    const wish = new Map(lanes.map(lane => [lane, (rank.get(lane) + pull(each => nodes[each].lane === lane, rank.get(lane))) / 2]));
    lanes.sort((a, b) => wish.get(a) - wish.get(b)).forEach((lane, i) => rank.set(lane, i));
  }
  return lanes;
}

// q and k of one channel multiply each other, so they stand together; a head's channels share a box.
function blocksOf(nodes, model) {
  const blocks = new Map();
  for (const node of nodes) {
    const head = ["q", "k", "v"].includes(kindOf(node.site)) ? Math.floor(node.channel / model.d_head) : null;
    const key = head ?? `${node.site}[${node.channel}]`;
    if (!blocks.has(key)) blocks.set(key, { head, nodes: [], header: head === null ? 0 : 18 });
    blocks.get(key).nodes.push(node);
  }
  for (const block of blocks.values()) {
    block.nodes.sort((a, b) => (kindOf(a.site) === "v") - (kindOf(b.site) === "v") || a.channel - b.channel || kindOf(b.site).localeCompare(kindOf(a.site)));
    block.size = block.nodes.length * NODE.pitch + block.header + (block.head === null ? 0 : 12);
  }
  return [...blocks.values()];
}

// Puts blocks as near their wish as they fit without overlap; returns the lower end.
function stack(blocks, bottom) {
  const top = COLUMN.header + COLUMN.top;
  blocks.sort((a, b) => a.wish - b.wish);
  let free = top;
  for (const block of blocks) { block.y = Math.max(free, block.wish - block.size / 2); free = block.y + block.size; }
  let limit = Math.max(bottom, top + blocks.reduce((sum, block) => sum + block.size, 0));
  const end = limit;
  for (const block of [...blocks].reverse()) { block.y = Math.min(block.y, limit - block.size); limit = block.y; }
  return end;
}

// From the first writer of each channel to its last reader.
function spans(nodes, residual, at) {
  const ends = new Map();
  for (const [source, target] of residual) {
    const [x1, x2] = ends.get(nodes[source].lane)?.x ?? [Infinity, -Infinity];
    ends.set(nodes[source].lane, { y: at[source].y, x: [Math.min(x1, at[source].x), Math.max(x2, at[target].x)] });
  }
  return [...ends.values()];
}

const mean = values => values.length ? values.reduce((a, b) => a + b, 0) / values.length : null;
const neighbours = (index, circuit) => [...circuit.edges, ...circuit.residual, ...circuit.unembedding].flatMap(([a, b]) => a === index ? [b] : b === index ? [a] : []);
