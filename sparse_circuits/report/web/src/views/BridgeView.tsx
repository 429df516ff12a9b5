// A bridge to a dense model, and what steering it along a circuit's nodes does.

import type { Bridge, Crossing, Estimate, Moved, Num, Payload, Steering } from "../payload/types";
import { decimal, visible } from "../numbers";
import { LineChart } from "../parts/LineChart";
import { Panel } from "../parts/Panel";
import { Table, type ColumnOf } from "../parts/Table";
import { Token } from "../parts/text";
import { Steer } from "./Steer";

const WAYS: Record<string, [string, string]> = {
  node: ["along the nodes", "var(--accent)"],
  random: ["along random directions", "var(--faint)"],
  raw: ["by its own activations", "var(--negative)"],
};

const MOST_NAMED = 4; // nodes in a sentence

export function BridgeView({ payload: { bridge, steering, live } }: { payload: Payload }) {
  return (
    <>
      {!bridge && !steering.length && !live?.steering && (
        <section class="panel">
          <p class="none">
            This run has no bridge. `sparse-circuits bridge` trains one, `sparse-circuits steer` draws its curves.
          </p>
        </section>
      )}
      {live && <Steer />}
      {bridge && <BridgePart bridge={bridge} />}
      {steering.map(found => (
        <SteeringPart found={found} />
      ))}
    </>
  );
}

function BridgePart({ bridge }: { bridge: Bridge }) {
  type Row = Crossing & { at: string; from: string };
  const name = ({ sparse, dense }: { sparse: string; dense: string }) => (sparse === dense ? sparse : `${sparse}, ${dense}`);
  const rows: Row[] = [
    ...bridge.places.flatMap(place => [
      { at: name(place), from: "dense", ...place.to_sparse },
      { at: name(place), from: "sparse", ...place.to_dense },
    ]),
    ...Object.entries(bridge.alternating).map(([key, crossing]) => ({
      at: "every place",
      from: key.replace("_first", ""),
      ...crossing,
    })),
  ];
  const measured = (label: string, key: keyof Crossing, title: string): ColumnOf<Row> => ({
    label,
    title,
    right: true,
    value: row => row[key],
    show: row => decimal(row[key]),
  });
  const places = bridge.places.map((_, i) => i + 1),
    curve = (way: "to_sparse" | "to_dense") => bridge.places.map(place => place[way].recovered);
  return (
    <>
      <div class="title">
        <h2>Bridge</h2>
        <p class="lede">
          Passes that begin in one model and end in the other. Validation loss in nats: bigram table{" "}
          {decimal(bridge.bigram_loss)}, dense model {decimal(bridge.dense_loss)}, sparse model {decimal(bridge.sparse_loss)}.
        </p>
      </div>
      <div class="grid two">
        <Panel
          title="What a crossing keeps"
          about="Share of the dense model's improvement over the bigram table that is left: 1 is all of it. Places from the first to the last."
          data={() => bridge.places}
        >
          <LineChart
            title="Recovered"
            axis="place"
            series={[
              { label: "dense to sparse", color: "var(--accent)", x: places, y: curve("to_sparse") },
              { label: "sparse to dense", color: "var(--negative)", x: places, y: curve("to_dense") },
            ]}
          />
        </Panel>
        <Panel title="Crossing by crossing" name="bridge" data={() => bridge}>
          <div class="long">
            <Table
              caption="Bridge"
              rows={rows}
              columns={[
                { label: "crossing over at", value: row => row.at },
                { label: "from", value: row => row.from },
                measured("loss", "loss", "of the next token, in nats"),
                measured("recovered", "recovered", "share of the dense model's improvement over the bigram table"),
                measured("KL", "kl", "from the dense model's answers, in nats"),
                measured("NMSE", "nmse", "error of the map, over the size of what it should say"),
              ]}
            />
          </div>
        </Panel>
      </div>
    </>
  );
}

function SteeringPart({ found }: { found: Steering }) {
  const series = (lines: (curve: Moved[]) => { y: Num[]; low?: Num[]; high?: Num[] }) =>
    Object.entries(found.curves).map(([way, curve]) => ({
      label: WAYS[way]?.[0] ?? way,
      color: WAYS[way]?.[1] ?? "var(--ink)",
      x: curve.map(each => each.strength),
      ...lines(curve),
    }));
  const banded = (estimates: Estimate[]) => ({
    y: estimates.map(each => each.mean),
    low: estimates.map(each => each.low),
    high: estimates.map(each => each.high),
  });
  return (
    <>
      <div class="title">
        <h2>Steering: {found.task}</h2>
        <p class="lede">
          The dense model, pushed along{" "}
          {found.nodes.length > MOST_NAMED ? `${found.nodes.length} nodes (below)` : found.nodes.join(", ")} towards the pair's
          other prompt, on {found.n_pairs} held-out pairs.
        </p>
      </div>
      <div class="grid three">
        <Panel
          title="The other answer"
          about="How likely the answer to the other prompt becomes; bands are 95 % intervals."
          data={() => found.curves}
        >
          <LineChart
            title="Probability of the other answer"
            axis="strength"
            series={series(curve => banded(curve.map(each => each.counterfactual)))}
          />
        </Panel>
        <Panel
          title="Which of the two answers"
          about="The other answer's share of the two: what moves where a prompt could go on in many ways."
          data={() => found.curves}
        >
          <LineChart
            title="Share of the two answers"
            axis="strength"
            series={series(curve => banded(curve.map(each => each.share)))}
          />
        </Panel>
        <Panel
          title="Side effects"
          about="By how much the same push changes answers on unrelated text: KL in nats a token."
          data={() => found.curves}
        >
          <LineChart
            title="KL on unrelated text"
            axis="strength"
            series={series(curve => ({ y: curve.map(each => each.side_effect) }))}
          />
        </Panel>
      </div>
      <Panel title="The nodes in the dense model" name={`steering-${found.task}`} data={() => found.features}>
        <Table
          caption={`Nodes of ${found.task} in the dense model`}
          rows={found.features}
          columns={[
            { label: "node", value: row => row.node },
            { label: "dense site", value: row => row.site },
            {
              label: "R²",
              right: true,
              title: "Share of the node's variance that the dense direction explains",
              value: row => row.r_squared,
              show: row => decimal(row.r_squared, 2),
            },
            {
              label: "dense tokens that excite it",
              show: row =>
                row.tokens.map(each => (
                  <>
                    <span class="muted">{visible(each.before.slice(-16))}</span>
                    <Token text={each.token} />{" "}
                  </>
                )),
            },
          ]}
        />
      </Panel>
    </>
  );
}
