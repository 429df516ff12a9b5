// The page: header, curves, task table, and a section for each circuit. A part that the payload lacks is left out.

const payload = JSON.parse(document.getElementById("payload").textContent);
const TARGET_LOSS = 0.15;
const COLORS = { ink: "var(--ink)", accent: "var(--accent)", faint: "var(--faint)" };

function header({ run, model, tasks, circuits, data }) {
  const shape = run.config?.model;
  const sentence = shape && `A weight-sparse transformer of ${shape.n_layers} layers and ${shape.d_model} channels, trained on ${short(run.n_tokens)} tokens`
    + (model ? `; one weight in ${Math.round(1 / model.l0_fraction)} is not zero.` : ".");
  const n_known = tasks?.filter(task => task.verdict === "known").length;
  const edges = circuits.map(circuit => circuit.n_edges).filter(Boolean);
  const geometric = edges.length ? Math.exp(mean(edges.map(Math.log))) : null;
  const tile = (label, value, note) => element("div", { class: "tile" }, element("dt", {}, label), element("dd", { class: "value" }, value), element("dd", { class: "note" }, note));
  return element("header", {},
    element("p", { class: "eyebrow" }, "sparse_circuits · run report"), element("h1", {}, run.name), element("p", { class: "lede" }, sentence || ""),
    element("dl", { class: "tiles" },
      model && tile("Validation loss", decimal(model.validation_loss), "nats per token"),
      model && tile("Weights not zero", percent(model.l0_fraction, 2), `${count(model.n_nonzero)} of ${count(model.n_entries)}`),
      known(run.n_tokens) ? tile("Training tokens", short(run.n_tokens), `${count(run.n_steps)} steps of ${count(run.tokens_per_step)}`) : null,
      tasks && tile("Tasks known", `${n_known} of ${tasks.length}`, "accuracy ≥ 0.95, loss < 0.15"),
      circuits.length ? tile("Circuits", count(circuits.length), geometric ? `geometric mean ${short(geometric)} edges` : "no edges") : null),
    element("details", {}, element("summary", {}, "Model, data, versions"), element("div", { class: "grid three" },
      ["model", "sparsity", "optimizer"].filter(part => run.config?.[part]).map(part => factCard(part, settings(run.config[part]))),
      factCard("run", [["seed", run.config?.seed], ["device", run.config?.device], ["precision", run.config?.precision], ["git", run.git], ...Object.entries(run.versions ?? {})]),
      data ? factCard("data", [["hash", data.hash.slice(0, 12)], ["training tokens", count(data.n_train_tokens)], ["validation tokens", count(data.n_validation_tokens)],
        ...data.sources.map(source => [source.title, percent(source.share)])]) : null,
      model?.dead_fraction ? deadCard(model.dead_fraction) : null)));
}

const settings = config => Object.entries(config).filter(([, value]) => typeof value !== "object");
const factCard = (title, rows) => element("section", { class: "card" }, element("h3", {}, title), facts(rows));

function deadCard(fractions) {
  return element("section", { class: "card" }, element("h3", {}, "dead channels, by kind of site"), Object.entries(fractions).map(([kind, fraction]) =>
    element("div", { class: "meter" }, element("span", { class: "mono" }, kind),
      element("span", { class: "track" }, element("i", { style: `width:${100 * fraction}%` })), element("span", { class: "number" }, percent(fraction)))));
}

function training({ curves: lines }) {
  if (!lines) return null;
  const line = (label, color, width, at, name) => at?.[name] ? [{ label, color, width, step: at.step, value: at[name] }] : [];
  return element("section", { id: "training" }, element("h2", {}, "Training"),
    element("p", {}, "Loss in nats per token; L0 counts the weights that are not zero. Hover or use the arrow keys to read values."),
    curves([
      { title: "Loss", lines: [...line("training", COLORS.faint, 1, lines.training, "loss"), ...line("validation", COLORS.accent, 2, lines.validation, "loss")] },
      { title: "L0", log: true, lines: line("not zero", COLORS.ink, 1.6, lines.training, "l0") },
      { title: "Learning rate", lines: line("rate", COLORS.ink, 1.6, lines.training, "lr") },
    ]));
}

function taskTable({ tasks, circuits, curves: lines }) {
  if (!tasks) return null;
  const circuitOf = new Map(circuits.map(circuit => [circuit.task, circuit]));
  const checkOf = (task, name) => circuitOf.get(task.task)?.checks.find(check => check.name === name) ?? null;
  const measured = (label, key, title, digits = 3) => ({ label, title, right: true, of: task => task[key], show: task => decimal(task[key], digits) });
  const checked = name => ({ label: name, right: true, title: LABELS[name], of: task => checkOf(task, name)?.loss,
    show: task => { const check = checkOf(task, name); return check ? element("span", { class: fails(check) ? "fails" : null }, decimal(check.loss)) : ""; } });
  const size = (label, part, rule) => ({ label, right: true, rule, of: task => circuitOf.get(task.task)?.[part], show: task => circuitOf.has(task.task) ? count(circuitOf.get(task.task)[part]) : "" });
  const columns = [
    { label: "task", of: task => task.task, show: task => circuitOf.has(task.task) ? element("a", { href: `#${anchor(task.task)}`, class: "mono" }, task.task) : element("span", { class: "mono" }, task.task) },
    { label: "verdict", of: task => task.verdict, show: task => element("span", { class: `badge ${task.verdict}` }, `${{ known: "✓ ", invalid: "✗ " }[task.verdict] ?? ""}${task.verdict}`) },
    measured("loss", "loss", "two-way cross-entropy of the right answer, in nats"),
    measured("accuracy", "accuracy", "share of prompts answered right"),
    measured("margin", "margin", "score of the right answer minus the wrong one's, in nats", 2),
    measured("bigram loss", "bigram_loss", "loss of the bigram table alone"),
    lines?.tasks && { label: "in training", show: task => lines.tasks[task.task] ? sparkline(lines.tasks[task.task], TARGET_LOSS, `loss of ${task.task} in training, down to ${short(lines.tasks[task.task].at(-1))}; the rule is at ${TARGET_LOSS}`) : "" },
    ...circuits.length ? [size("nodes", "n_nodes", true), size("edges", "n_edges"), ...["circuit", "necessity", "random", "outside"].map(checked)] : [],
  ].filter(Boolean);
  return element("section", { id: "tasks" }, element("h2", {}, "Tasks"),
    element("p", {}, "Binary next-token questions. A task is known at accuracy 0.95 and loss under 0.15; it is bigram when the table of token pairs answers it alone. Chance is a loss of ln 2 ≈ 0.693."),
    element("div", { class: "card scroll" }, table(columns, tasks, { caption: "Tasks" })));
}

const LABELS = {
  model: "whole model", circuit: "circuit alone", circuit_raw: "… before calibration", necessity: "only the circuit removed",
  random: "random circuit, the best", random_calibrated: "… calibrated on its own", outside: "other nodes removed", ablated: "everything removed",
  "partial_0.0": "0 % of the rest removed", "partial_0.25": "25 % of the rest removed", "partial_0.5": "50 % of the rest removed",
  "partial_0.75": "75 % of the rest removed", "partial_1.0": "100 % of the rest removed", frozen_norms: "norms as in the model",
  resample: "the rest at random values", swapped: "search: answers swapped", coin: "search: answers by a coin", random_weights: "search: random weights",
};
const anchor = task => `circuit-${task}`;
const fails = ({ loss, at_most, at_least }) => (known(at_most) && loss > at_most) || (known(at_least) && loss < at_least);

function checks(rows, verdict) {
  const full = Math.max(0.8, ...rows.map(row => row.high));
  const limit = row => known(row.at_most) ? `at most ${row.at_most}` : known(row.at_least) ? `at least ${row.at_least}` : "";
  return element("section", { class: "card" }, element("h3", {}, "Is it what the model uses?"), element("p", { class: `verdict ${rows.some(fails) ? "fails" : "holds"}` }, verdict),
    element("p", { class: "caption" }, "Task loss on held-out pairs, in nats, with 95 % intervals."),
    rows.map(row => element("div", { class: "check" }, element("span", { title: row.about }, LABELS[row.name] ?? row.name),
      element("span", { class: "track", title: `95 % interval ${decimal(row.low)} to ${decimal(row.high)}` },
        element("i", { style: `width:${100 * row.loss / full}%` }),
        element("u", { style: `left:${100 * row.low / full}%;width:${100 * (row.high - row.low) / full}%` }),
        limit(row) ? element("b", { style: `left:${100 * (row.at_most ?? row.at_least) / full}%` }) : null),
      element("span", { class: "number" }, decimal(row.loss)),
      element("span", { class: `limit ${limit(row) && (fails(row) ? "fails" : "holds")}` }, limit(row)))));
}

function examples(pairs) {
  return element("section", { class: "card" }, element("h3", {}, "An example pair"), pairs.map(({ prompt, answer, other, probability }) => [
    element("p", { class: "caption" }, known(probability) ? `The circuit gives the right answer probability ${probability.toFixed(4)}.` : ""),
    element("pre", { class: "prompt" }, prompt, element("mark", {}, visible(answer)), element("span", { class: "muted" }, ` not ${visible(other)}`))]));
}

function circuitSection(circuit) {
  const name = index => nameOf(circuit.nodes[index]);
  const own = circuit.nodes.filter(node => !["embed", "logits"].includes(node.site));
  const links = [...circuit.edges.map(edge => ["edge", ...edge]), ...circuit.unembedding.map(link => ["unembedding", ...link])];
  const edgeColumns = [{ label: "from", of: ([, source]) => name(source), show: ([, source]) => element("code", {}, name(source)) },
    { label: "to", of: ([, , target]) => name(target), show: ([, , target]) => element("code", {}, name(target)) },
    { label: "weight", right: true, of: ([, , , w]) => w, show: ([, , , w]) => weight(w) },
    { label: "loss without", right: true, of: ([, , , , without]) => without, show: ([, , , , without]) => known(without) ? decimal(without) : "" },
    { label: "kind", of: ([kind]) => kind }];
  const degree = (node, end) => circuit.edges.filter(edge => edge[end] === circuit.nodes.indexOf(node)).length;
  const nodeColumns = [{ label: "node", of: nameOf, show: node => element("code", {}, nameOf(node)) },
    { label: "edges in", right: true, of: node => degree(node, 1) }, { label: "edges out", right: true, of: node => degree(node, 0) },
    { label: "loss without", right: true, of: node => node.without, show: node => known(node.without) ? decimal(node.without) : "" }];
  const long = (title, content) => element("details", {}, element("summary", {}, title), element("div", { class: "card scroll long" }, content));
  return element("section", { class: "circuit", id: anchor(circuit.task) }, element("h2", {}, circuit.task),
    element("p", {}, prose(circuit.summary), ` · ${count(circuit.n_nodes)} nodes, ${count(circuit.n_edges)} edges`),
    element("div", { class: "grid two" }, circuit.checks.length ? checks(circuit.checks, circuit.verdict) : null, circuit.examples.length ? examples(circuit.examples) : null),
    graph(circuit),
    element("div", { class: "grid two" }, long(`Nodes (${own.length})`, table(nodeColumns, own, { caption: `Nodes of ${circuit.task}` })),
      long(`Edges and unembedding weights (${links.length})`, table(edgeColumns, links, { caption: `Edges of ${circuit.task}` }))));
}

function bridgeSection({ bridge }) {
  if (!bridge) return null;
  const rows = [...bridge.places.flatMap(place => [{ at: place, from: "dense", ...place.to_sparse }, { at: place, from: "sparse", ...place.to_dense }]),
    ...Object.entries(bridge.alternating).map(([name, measured]) => ({ from: name.replace("_first", ""), ...measured }))];
  const name = ({ at }) => !at ? "every place" : at.sparse === at.dense ? at.sparse : `${at.sparse}, ${at.dense}`;
  const measured = (label, key, title) => ({ label, title, right: true, of: row => row[key], show: row => decimal(row[key]) });
  const columns = [{ label: "crossing over at", of: name }, { label: "from", of: row => row.from }, measured("loss", "loss", "of the next token, in nats"),
    measured("recovered", "recovered", "share of the dense model's improvement over the bigram table"), measured("KL", "kl", "from the dense model's answers, in nats"),
    measured("NMSE", "nmse", "error of the map, over the size of what it should say")];
  return element("section", { id: "bridge" }, element("h2", {}, "Bridge"),
    element("p", {}, `Passes that begin in one model and end in the other. Validation loss in nats: bigram table ${decimal(bridge.bigram_loss)}, dense ${decimal(bridge.dense_loss)}, sparse ${decimal(bridge.sparse_loss)}.`),
    element("div", { class: "card scroll" }, table(columns, rows, { caption: "Bridge" })));
}

function steeringSection({ steering }) {
  if (!steering.length) return null;
  const names = ["node", "random", "raw"];
  const columns = [{ label: "strength", of: row => row.strength }, ...names.flatMap(name => [
    { label: `P, ${name}`, title: "probability of the counterfactual answer", right: true, of: row => row[name].counterfactual,
      show: row => element("span", { title: `95 % interval ${decimal(row[name].low)} to ${decimal(row[name].high)}` }, decimal(row[name].counterfactual)) },
    { label: "KL elsewhere", title: "on unrelated text, in nats a token", right: true, of: row => row[name].side_effect, show: row => decimal(row[name].side_effect) }])];
  const featureColumns = [{ label: "node", of: row => row.node, show: row => element("code", {}, row.node) }, { label: "dense site", of: row => row.site },
    { label: "R²", right: true, of: row => row.r_squared, show: row => decimal(row.r_squared, 2) },
    { label: "dense tokens that excite it", show: row => row.tokens.map(each => [element("span", { class: "muted" }, visible(each.before.slice(-16))), token(each.token), " "]) }];
  return element("section", { id: "steering" }, element("h2", {}, "Steering"), steering.map(found => [element("h3", {}, found.task),
    element("p", {}, `The dense model, pushed along ${found.nodes.join(", ")}, along random directions, and by the difference of its own activations; ${found.n_pairs} held-out pairs.`),
    element("div", { class: "card scroll" }, table(columns, found.curves.node.map((point, i) => Object.fromEntries([["strength", point.strength], ...names.map(name => [name, found.curves[name][i]])])), { caption: `Steering of ${found.task}` })),
    element("div", { class: "card scroll" }, table(featureColumns, found.features, { caption: `Nodes of ${found.task} in the dense model` }))]));
}

function bar(sections) {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paint = theme => { root.dataset.theme = theme; toggle.textContent = theme === "dark" ? "☀ Light" : "☾ Dark"; };
  const toggle = element("button", { type: "button", onclick: () => paint(root.dataset.theme === "dark" ? "light" : "dark") });
  paint(dark.matches ? "dark" : "light");
  dark.addEventListener("change", () => paint(dark.matches ? "dark" : "light"));
  const title = section => section.querySelector("h2").textContent;
  document.getElementById("bar").append(element("div", { class: "links" }, sections.map(section => element("a", { href: `#${section.id}` }, title(section)))), toggle);
}

function show() {
  const sections = [training(payload), taskTable(payload), bridgeSection(payload), steeringSection(payload), ...payload.circuits.map(circuit => circuitSection(circuit))].filter(Boolean);
  document.getElementById("content").append(...[payload.run && header(payload), ...sections].filter(Boolean),
    element("footer", {}, `Made by sparse_circuits${payload.run?.versions?.["sparse-circuits"] ? ` ${payload.run.versions["sparse-circuits"]}` : ""}; `
      + `payload ${payload.schema.name} ${payload.schema.version}, also beside this page as report.json.`));
  bar(sections);
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(details => { details.open = true; }));
}

show();
