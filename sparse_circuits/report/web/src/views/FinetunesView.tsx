// Finetunes of one base: where they lie by what they do, and what an adapter makes them say.

import type { Finetunes, Interpreted, Pool } from "../payload/types";
import { decimal, percent } from "../numbers";
import { LineChart } from "../parts/LineChart";
import { Panel } from "../parts/Panel";
import { Scatter } from "../parts/Scatter";
import { Table } from "../parts/Table";

const ABOUT: Record<string, string> = {
  interpreted: "the adapter's answers",
  unaided: "what the finetunes say by themselves",
  permuted: "the adapter's answers, held against other finetunes' labels",
  unchanged: "what the adapter says of the unchanged base",
};

export function FinetunesView({ finetunes }: { finetunes: Finetunes | null }) {
  return (
    <>
      {finetunes?.pool && <PoolPart pool={finetunes.pool} />}
      {finetunes?.interpreted && <InterpretedPart found={finetunes.interpreted} />}
    </>
  );
}

function PoolPart({ pool }: { pool: Pool }) {
  const kinds = [...new Set(pool.labels)],
    how = pool.clustering;
  const rows = pool.names.map((name, i) => ({ name, label: pool.labels[i], norm: pool.norms[i], near: pool.nearest[i] }));
  return (
    <>
      <div class="title">
        <h2>What finetunes do to a few prompts</h2>
        <p class="lede">
          {pool.names.length} finetunes, {kinds.length} labels.{" "}
          {how &&
            `Silhouette ${decimal(how.silhouette)} (${decimal(how.low)} to ${decimal(how.high)}), p = ${decimal(how.p_value, 4)}; the nearest neighbour has the same label in ${percent(how.nearest)}.`}
        </p>
      </div>
      <div class="grid two">
        {Object.entries(pool.maps).map(([title, points]) => (
          <Panel title={title} data={() => pool.names.map((name, i) => ({ name, label: pool.labels[i], at: points[i] }))}>
            <Scatter
              title={title}
              kinds={kinds}
              points={points.map((at, i) => ({
                kind: pool.labels[i],
                at,
                tip: (
                  <>
                    <b>{pool.names[i]}</b>
                    <div>{pool.labels[i]}</div>
                  </>
                ),
              }))}
            />
          </Panel>
        ))}
      </div>
      <Panel title="Finetunes and their nearest" name="pool" data={() => pool}>
        <div class="long">
          <Table
            caption="Finetunes"
            rows={rows}
            columns={[
              { label: "finetune", value: row => row.name },
              { label: "label", value: row => row.label },
              { label: "nearest", value: row => row.near && pool.names[row.near[0]] },
              { label: "its label", value: row => row.near && pool.labels[row.near[0]] },
              { label: "cosine", right: true, value: row => row.near?.[1], show: row => decimal(row.near?.[1]) },
              { label: "norm", right: true, value: row => row.norm, show: row => decimal(row.norm) },
            ]}
          />
        </div>
      </Panel>
    </>
  );
}

function InterpretedPart({ found }: { found: Interpreted }) {
  const answers = (name: string) => found.rows.find(row => row.name === name)?.answers ?? [];
  const said = found.labels.map((label, i) => ({ label, told: answers("interpreted")[i], alone: answers("unaided")[i] }));
  return (
    <>
      <div class="title">
        <h2>What finetunes say they learned</h2>
        <p class="lede">
          “{found.question}”, asked of {found.labels.length} finetunes that the adapter has not learned from.
        </p>
      </div>
      <div class="grid two">
        <Panel
          title="Named, and named where nothing is"
          about="Points are a judge's, 1 to 5; the last two rows should come to nothing."
          name="interpreted"
          data={() => found}
        >
          <Table
            caption="Ways of asking"
            rows={found.rows}
            columns={[
              { label: "held against the labels", show: row => ABOUT[row.name] ?? row.name },
              { label: "exact", right: true, value: row => row.exact, show: row => percent(row.exact) },
              { label: "points", right: true, value: row => row.score, show: row => decimal(row.score, 2) },
            ]}
          />
        </Panel>
        {found.confidence && (
          <Panel
            title="How far its confidence can be trusted"
            about="Answers in the order of confidence, as many shuffled finetunes among them: how many of those kept are right."
            data={() => found.confidence}
          >
            <LineChart
              title="Right"
              axis="share of answers kept"
              series={[{ label: "right", color: "var(--accent)", x: found.confidence.coverage, y: found.confidence.accuracy }]}
            />
          </Panel>
        )}
      </div>
      <Panel title="Answer by answer" data={() => said}>
        <div class="long">
          <Table
            caption="Answers"
            rows={said}
            columns={[
              { label: "learned", value: row => row.label },
              { label: "interpreted", value: row => row.told },
              { label: "by itself", value: row => row.alone },
            ]}
          />
        </div>
      </Panel>
    </>
  );
}
