// What nodes are called, what they are, and how they are written in Python.

import { visible } from "./numbers";
import type { Circuit, GraphNode } from "./payload/types";

const ROLES: Record<string, string> = {
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
  logits: "The logit of one of the pair's two answers.",
};

export const kindOf = (site: string): string => site.replace(/^\d+\./, "");
export const layerOf = (site: string): number => Number(/^(\d+)\./.exec(site)?.[1] ?? -1);
export const partOf = (site: string): string => site.split(".").at(-1) ?? site;
export const isEnd = (node: GraphNode): boolean => node.site === "embed" || node.site === "logits";
export const isHead = (site: string): boolean => /\.attn\.[qkv]$/.test(site);
export const isStream = (site: string): boolean =>
  site === "embed" || site === "final_resid" || /act_in$|resid_delta$/.test(site);
export const headOf = (node: GraphNode, circuit: Circuit): number => Math.floor(node.channel / circuit.shape.d_head);
export const isPosition = (node: GraphNode, circuit: Circuit): boolean =>
  isStream(node.site) && node.channel >= circuit.shape.d_model;

export const nameOf = (node: GraphNode): string =>
  node.site === "logits" ? `logit ${visible(node.text ?? "")}` : `${node.site}[${node.channel}]`;

export const roleOf = (node: GraphNode, circuit: Circuit): string =>
  isPosition(node, circuit)
    ? "A channel of the token's position, which sublayers read beside the residual stream."
    : (ROLES[kindOf(node.site)] ?? "");

// `Node` and the tokenizer are what sparse_circuits.model and a circuit offer.
export const pythonOf = (node: GraphNode): string =>
  node.site === "logits"
    ? String(node.channel)
    : node.site === "embed"
      ? `circuit.model.embed.weight[:, ${node.channel}]`
      : `Node("${node.site}", ${node.channel})`;
