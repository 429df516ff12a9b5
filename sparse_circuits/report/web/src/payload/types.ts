// The payload, as report/payload.py and the files that it names describe it. A number that was not finite is null.

export type Num = number | null;

export interface Payload {
  schema: { name: string; version: number };
  run: Run | null;
  data: {
    hash: string;
    n_train_tokens: number;
    n_validation_tokens: number;
    sources: { title: string; share: number }[];
  } | null;
  model: {
    validation_loss: Num;
    n_nonzero: number;
    n_entries: number;
    l0_fraction: number;
    dead_fraction?: Record<string, number>;
  } | null;
  curves: Curves | null;
  tasks: TaskRow[] | null;
  circuits: Circuit[];
  texts: string[];
  samples: Record<string, Sample>;
  bridge: Bridge | null;
  steering: Steering[];
  finetunes: Finetunes | null;
  live: Live | null;
}

// What the server behind the page works with; report/server/session.py says it.
export interface Live {
  model: { n_ctx: number } | null;
  // `why`: why the whole model is not at hand; `answers`: null where they differ from pair to pair.
  circuits: { model: boolean; why: string | null; answers: [string, string] | null; n_pairs: number; n_ctx: number }[];
  steering: boolean;
  why_no_steering: string | null;
  limits: { n_bytes: number; seconds: number };
}

export interface Run {
  name: string;
  config?: Record<string, unknown> & { model?: Record<string, unknown> };
  versions?: Record<string, string>;
  git?: string | null;
  n_tokens?: number;
  n_steps?: number;
  tokens_per_step?: number;
}

export interface Curves {
  training: { step: number[]; loss: Num[]; l0: Num[]; lr: Num[]; gradient_rms: Num[] };
  validation: { step: number[]; loss: Num[] };
  tasks: Record<string, Num[]>;
}

export interface TaskRow {
  task: string;
  verdict: string;
  loss: Num;
  accuracy: Num;
  margin: Num;
  bigram_loss: Num;
}

export interface Signed {
  scale: Num[];
  bytes: string;
}

export interface HeadShares {
  layer: number;
  head: number;
  shares: string;
}

export interface GraphNode {
  site: string;
  channel: number;
  text?: string;
  without?: Num;
  fidelity?: [Num, Num];
  in_model?: { n_in: number; n_out: number; into: [string, Num][]; out: [string, Num][] };
}

export interface Pair {
  tokens: [number[], number[]];
  answers: [number, number];
  circuit: [Num, Num];
  model: [Num, Num];
}

export interface OvPath {
  product: Num;
  nodes: number[];
  starts: [number, Num][];
}
export interface QkPath {
  product: Num;
  query: OvPath;
  key: OvPath;
}

export interface Check {
  name: string;
  about: string;
  loss: Num;
  low: Num;
  high: Num;
  accuracy: Num;
  n_draws: number;
  at_most: Num;
  at_least: Num;
}

export interface Notes {
  labels: Record<string, string>;
  groups: { name: string; nodes: string[] }[];
}

export interface Circuit {
  task: string;
  summary: string;
  n_nodes: number;
  n_edges: number;
  model_hash: string;
  verdict: string;
  shape: { n_layers: number; d_model: number; d_head: number; n_heads: number };
  nodes: GraphNode[];
  edges: [number, number, Num, Num][];
  residual: [number, number, Num][];
  unembedding: [number, number, Num][];
  channels: Record<string, { embed: [number, Num][]; unembed: [number, Num][] }>;
  pairs: Pair[];
  activations: { circuit: Signed; model: Signed } | null;
  attention: HeadShares[];
  paths: { ov: OvPath[]; qk: QkPath[]; n_ov: number; n_qk: number } | null;
  checks: Check[];
  target_loss: Num;
  n_pairs: number;
  interchange: { correlation: Num; same_sign: Num; all_in_model: Num; all_in_circuit: Num } | null;
  pattern_error: Record<string, Num>;
  backups: string[];
  merges: { node: string; into: string; ratio: Num; r_squared: Num }[];
  notes: Notes;
}

export interface Behaviour {
  silent: number;
  histogram: { low: number; high: number; counts: number[] } | null;
  quantiles: Num[];
  examples: { at: number[][]; values: Signed };
}

export interface Sample {
  tokens: number[];
  n_pos: number;
  nodes: Record<string, Behaviour>;
}

export interface Crossing {
  loss: Num;
  recovered: Num;
  kl: Num;
  nmse: Num;
}
export interface Bridge {
  bigram_loss: Num;
  dense_loss: Num;
  sparse_loss: Num;
  places: { sparse: string; dense: string; to_sparse: Crossing; to_dense: Crossing }[];
  alternating: Record<string, Crossing>;
}

export interface Estimate {
  mean: Num;
  low: Num;
  high: Num;
}
export interface Moved {
  strength: number;
  counterfactual: Estimate;
  share: Estimate;
  own: Num;
  side_effect: Num;
}
export interface Steering {
  task: string;
  nodes: string[];
  n_pairs: number;
  curves: Record<string, Moved[]>;
  features: {
    node: string;
    site: string;
    r_squared: Num;
    tokens: { before: string; token: string; projection: Num; activation: Num }[];
  }[];
}

export interface Pool {
  names: string[];
  labels: string[];
  norms: Num[];
  nearest: ([number, Num] | null)[];
  maps: Record<string, [Num, Num][]>;
  clustering: {
    silhouette: Num;
    low: Num;
    high: Num;
    p_value: Num;
    nearest: Num;
    norm: Num;
    n_models: number;
  } | null;
}
export interface Interpreted {
  question: string;
  labels: string[];
  rows: { name: string; answers: string[]; exact: Num; score: Num }[];
  confidence: { coverage: number[]; accuracy: Num[] } | null;
}
export interface Finetunes {
  pool: Pool | null;
  interpreted: Interpreted | null;
}
