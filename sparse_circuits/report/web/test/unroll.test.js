// What a picture is made of, worked by hand on one attention layer with one head of two channels.

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { runnerImport } from "vite";

const UNROLL = join(dirname(fileURLToPath(import.meta.url)), "../src/graph/unroll.ts");
let merged, unreached, unroll;

before(async () => {
  ({ merged, unreached, unroll } = (await runnerImport(UNROLL)).module);
});

const SITES = ["embed", "0.attn.act_in", "0.attn.q", "0.attn.k", "0.attn.v", "0.attn.resid_delta", "final_resid"];
const [EMBED, READ, QUERY, KEY, VALUE, WRITTEN, FINAL, YES, NO, MAYBE] = Array(10).keys();
const CIRCUIT = {
  shape: { n_layers: 1, d_model: 4, d_head: 2, n_heads: 1 },
  target_loss: 0.25,
  nodes: [
    ...SITES.map(site => ({ site, channel: 1 })),
    ...["yes", "no", "maybe"].map((text, channel) => ({ site: "logits", channel, text })),
  ],
  edges: [
    [READ, QUERY, 1, null],
    [READ, KEY, 1, null],
    [READ, VALUE, 3, 0.75],
    [VALUE, WRITTEN, -2, null],
  ],
  residual: [
    [EMBED, READ, null],
    [WRITTEN, FINAL, 0.5],
  ],
  unembedding: [
    [FINAL, YES, 4],
    [FINAL, NO, -4],
    [FINAL, MAYBE, 1],
  ],
};

// Three tokens, of which the last looks at the first twice as much as at the second, and at the sink.
const LOOKS = [
  [1, 0],
  [0.5, 0.5, 0],
  [0.4, 0.2, 0, 0.4],
];
const ones = [1, 1, 1];
const promptWith = (held = {}, looks = LOOKS) => {
  const activations = node => held[node] ?? ones;
  return {
    tokens: looks.map((_, i) => `t${i}`),
    answer: { node: YES, text: "yes" },
    other: { node: NO, text: "no" },
    activations,
    activation: (node, token) => activations(node)[token] ?? 0,
    attention: (layer, head, query) => looks[query],
  };
};
const spots = plane => plane.spots.map(({ node, token }) => `${node}@${token}`);
const line = (plane, from, to) => plane.lines.find(each => spots(plane)[each.from] === from && spots(plane)[each.to] === to);

describe("unrolled", () => {
  it("begins at both answers and ends where tokens are read", () => {
    const plane = unroll(CIRCUIT, promptWith());
    assert.deepEqual(spots(plane).slice(0, 3), [`${YES}@2`, `${NO}@2`, `${FINAL}@2`]);
    assert.deepEqual(plane.tokens, [0, 1, 2]);
    for (const token of [0, 1]) assert.ok(spots(plane).includes(`${EMBED}@${token}`));
    assert.ok(!spots(plane).includes(`${MAYBE}@2`));
    assert.equal(new Set(spots(plane)).size, plane.spots.length);
    assert.equal(unreached(CIRCUIT, plane), 0);
  });

  it("a line has the weight, and what flows through it here", () => {
    const plane = unroll(
      CIRCUIT,
      promptWith({ [FINAL]: [0, 0, 0.5], [WRITTEN]: [0, 0, 3], [VALUE]: [5, 7, 0], [EMBED]: [2, 2, 2] }),
    );
    const flow = (from, to) => line(plane, from, to).flow;
    assert.equal(flow(`${FINAL}@2`, `${YES}@2`), 2); // 4 * 0.5
    assert.equal(flow(`${WRITTEN}@2`, `${FINAL}@2`), 1.5); // the norm's gain, 0.5 * 3
    assert.equal(flow(`${VALUE}@0`, `${WRITTEN}@2`), -4); // -2 * 5 * 0.4 of the attention
    assert.equal(line(plane, `${VALUE}@1`, `${WRITTEN}@2`).share, 0.2);
    assert.equal(flow(`${EMBED}@0`, `${READ}@0`), 2); // no weight of its own: what the embedding writes
  });

  it("an edge's effect is what the loss rises by without it", () => {
    const plane = unroll(CIRCUIT, promptWith());
    assert.equal(line(plane, `${READ}@0`, `${VALUE}@0`).effect, 0.5);
    assert.equal(line(plane, `${VALUE}@0`, `${WRITTEN}@2`).effect, null);
  });

  it("leaves out what is zero, and what only it needs", () => {
    const plane = unroll(CIRCUIT, promptWith({ [VALUE]: [1, 0, 1] }));
    assert.ok(!spots(plane).includes(`${VALUE}@1`) && !spots(plane).includes(`${KEY}@1`));
    const silent = unroll(CIRCUIT, promptWith({ [FINAL]: [0, 0, 0] }));
    assert.deepEqual(spots(silent), [`${YES}@2`, `${NO}@2`]);
    assert.equal(unreached(CIRCUIT, silent), 6); // all but the ends
  });

  it("draws the query and the key that meet, with their product", () => {
    const plane = unroll(CIRCUIT, promptWith({ [QUERY]: [0, 0, 3], [KEY]: [2, 0, 0] }));
    assert.equal(line(plane, `${KEY}@0`, `${QUERY}@2`).flow, 6 / Math.sqrt(2));
    assert.equal(line(plane, `${KEY}@0`, `${QUERY}@2`).kind, "match");
    assert.ok(!spots(plane).includes(`${KEY}@1`));
  });

  it("a key whose query is outside stays", () => {
    const alone = { ...CIRCUIT, nodes: CIRCUIT.nodes.map((node, i) => (i === QUERY ? { ...node, channel: 0 } : node)) };
    const plane = unroll(alone, promptWith());
    assert.ok(spots(plane).includes(`${KEY}@0`));
    assert.ok(plane.lines.every(each => each.kind !== "match"));
  });

  const keysOf = shares => {
    const length = shares.length - 1;
    const looks = Array.from({ length }, (_, query) => (query === length - 1 ? shares : Array(query + 2).fill(0)));
    const held = Array(length).fill(1);
    const prompt = promptWith(Object.fromEntries(CIRCUIT.nodes.map((_, node) => [node, held])), looks);
    const { spots: found } = unroll(CIRCUIT, prompt);
    return found.filter(each => each.node === VALUE).map(each => each.token);
  };

  it("shows the keys that get most of the attention: the sink is none of them, and has no share in the total", () => {
    assert.deepEqual(keysOf([0.07, 0.02, 0.01, 0.9]), [0, 1]); // 0.09 of 0.1 are more than 85 %
    assert.deepEqual(keysOf([0.1, 0.6, 0.05, 0.25]), [1]); // the others have less than a fifth of the first
    assert.deepEqual(keysOf([0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.3]), [0, 1, 2, 3, 4]); // no more than five
  });

  it("stops at heads whose attention is not known", () => {
    const plane = unroll(CIRCUIT, { ...promptWith(), attention: () => null });
    assert.deepEqual(spots(plane), [`${YES}@2`, `${NO}@2`, `${FINAL}@2`, `${WRITTEN}@2`]);
  });
});

describe("all tokens as one", () => {
  it("has every node once, whatever it holds", () => {
    const plane = merged(CIRCUIT, null);
    assert.equal(plane.spots.length, CIRCUIT.nodes.length);
    assert.deepEqual(plane.tokens, [0]);
    assert.equal(plane.lines.length, 4 + 2 + 3 + 1);
    assert.ok(plane.lines.every(each => each.flow === null));
  });

  it("has a prompt's own answers, and flows where the source is largest", () => {
    const plane = merged(CIRCUIT, promptWith({ [VALUE]: [1, -5, 2] }));
    assert.ok(!spots(plane).includes(`${MAYBE}@0`));
    assert.equal(line(plane, `${VALUE}@0`, `${WRITTEN}@0`).flow, 10);
  });

  it("has all answers where the prompt's are not among them", () => {
    const plane = merged(CIRCUIT, { ...promptWith(), other: { node: -1, text: "else" } });
    assert.equal(plane.spots.length, CIRCUIT.nodes.length);
  });
});
