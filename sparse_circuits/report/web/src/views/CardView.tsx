// The faithfulness card: everything that was held against the circuit, drawn on one scale.

import { scaleLinear } from "d3-scale";
import type { Check, Circuit } from "../payload/types";
import { aboutCheck, CHAPTERS, fails, nameOfCheck } from "../checks";
import { decimal, known, percent } from "../numbers";
import { nameOf } from "../names";
import { change } from "../session";
import { Panel } from "../parts/Panel";
import { Table } from "../parts/Table";
import { hideTip, showTip } from "../parts/tip";

const CHANCE = Math.LN2, WIDTH = 300, HEIGHT = 26, MOST = 1;

export function CardView({ circuit }: { circuit: Circuit }) {
  if (!circuit.checks.length) return <><div class="title"><h2>{circuit.task}</h2></div><section class="panel"><p class="none">This circuit has no card: nothing was held against it yet. `sparse-circuits extract` writes one.</p></section></>;
  const drawn = new Set<Check>();
  return <>
    <div class="title"><h2>{circuit.task}</h2><p class={`verdict ${circuit.verdict.startsWith("holds") ? "holds" : "fails"}`}>{circuit.verdict}</p>
      <p class="lede">Losses on {circuit.n_pairs} held-out pairs, in nats: 0 is always right, {decimal(CHANCE, 2)} is guessing, more is worse than guessing. Dots are means, bars 95 % intervals. A green zone is where the loss has to be, an arrow a loss beyond the scale.</p></div>
    <div class="masonry">{CHAPTERS.map(chapter => {
      const checks = circuit.checks.filter(chapter.holds);
      checks.forEach(check => drawn.add(check));
      return checks.length > 0 && <Panel title={chapter.title} about={chapter.about} data={() => checks}>{checks.map(check => <Row check={check} />)}<Axis /></Panel>;
    })}
    {circuit.checks.some(check => !drawn.has(check)) && <Panel title="More" data={() => circuit.checks}>{circuit.checks.filter(check => !drawn.has(check)).map(check => <Row check={check} />)}<Axis /></Panel>}
    <Inside circuit={circuit} /></div>
  </>;
}

const x = scaleLinear([0, MOST], [8, WIDTH - 12]).clamp(true);

function Row({ check }: { check: Check }) {
  const isBad = fails(check), bound = check.at_most ?? check.at_least;
  const limit = known(check.at_most) ? `at most ${check.at_most}` : known(check.at_least) ? `at least ${check.at_least}` : "";
  return <div class="check"><div><b>{nameOfCheck(check)}</b><span class="muted">{aboutCheck(check)}</span></div>
    <svg class="picture" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={`${nameOfCheck(check)}: loss ${decimal(check.loss)}, ${decimal(check.low)} to ${decimal(check.high)}; ${limit}`}
      onPointerMove={event => showTip(event, <><b>{decimal(check.loss)}</b> ({decimal(check.low)} to {decimal(check.high)})<div>{percent(check.accuracy, 1)} of prompts right</div><div class="muted">{check.about}{check.n_draws > 1 && `, ${check.n_draws} draws`}</div></>)} onPointerLeave={hideTip}>
      {known(check.at_most) && <rect class="zone" x="0" width={x(check.at_most)} y="3" height={HEIGHT - 6} />}
      {known(check.at_least) && <rect class="zone" x={x(check.at_least)} width={WIDTH - x(check.at_least)} y="3" height={HEIGHT - 6} />}
      <line class="chance" x1={x(CHANCE)} x2={x(CHANCE)} y1="0" y2={HEIGHT} />
      {known(bound) && <line class="bound" x1={x(bound)} x2={x(bound)} y1="2" y2={HEIGHT - 2} />}
      {known(check.low) && known(check.high) && <rect class={`interval ${isBad ? "bad" : ""}`} x={x(check.low)} width={Math.max(2, x(check.high) - x(check.low))} y={HEIGHT / 2 - 3} height="6" rx="3" />}
      {known(check.loss) && (check.loss > MOST ? <path class={`dot ${isBad ? "bad" : ""}`} d={`M${WIDTH - 16} ${HEIGHT / 2 - 6}l12 6l-12 6z`} /> : <circle class={`dot ${isBad ? "bad" : ""}`} cx={x(check.loss)} cy={HEIGHT / 2} r="5" />)}
    </svg>
    <span class="number">{decimal(check.loss)}</span><span class={limit ? isBad ? "fails" : "holds" : "muted"}>{limit}</span></div>;
}

function Axis() {
  return <div class="check axis"><div /><svg class="picture" viewBox={`0 0 ${WIDTH} 16`} aria-hidden="true">{[0, 0.2, 0.5, 1].map(tick => <text x={x(tick)} y="12" text-anchor="middle">{tick}</text>)}<text x={x(CHANCE)} y="12" text-anchor="middle">guess</text></svg><span /><span /></div>;
}

function Inside({ circuit }: { circuit: Circuit }) {
  const measured = circuit.nodes.filter(node => node.fidelity), heads = Object.entries(circuit.pattern_error), swap = circuit.interchange;
  return <>
    <Panel title="Does it work the same way inside?" about="Beside the answer, what nodes and heads do in the circuit is compared with what they do in the whole model." data={() => ({ interchange: swap, pattern_error: circuit.pattern_error, fidelity: measured.map(node => ({ node: nameOf(node), fidelity: node.fidelity })), backups: circuit.backups })}>
      {swap && <ul class="facts">
        <li>Nodes swapped one at a time with the pair's other prompt move the answer alike in circuit and model: correlation <b>{decimal(swap.correlation, 2)}</b>, same direction for <b>{percent(swap.same_sign, 0)}</b> of the movement.</li>
        <li>With all of them swapped together, <b>{percent(swap.all_in_model, 0)}</b> of the whole model's answers turn over, and {percent(swap.all_in_circuit, 0)} of the circuit's.</li></ul>}
      {heads.length > 0 && <><h4>How much heads look elsewhere than in the model</h4><ul class="bars">{heads.map(([head, error]) => <li><span class="mono">{head}</span><i><b style={{ width: `${50 * (error ?? 0)}%` }} /></i><span>{decimal(error, 2)}</span></li>)}</ul><p class="about">0 is the same attention, 2 nothing in common.</p></>}
      {circuit.backups.length > 0 && <p>Where the model answers without the circuit, it does so through {circuit.backups.map(node => <code>{node} </code>)}.</p>}
    </Panel>
    {measured.length > 0 && <Panel title="Node by node" about="Correlation with the node's own activation in the whole model, over held-out tokens, and the size of the difference." data={() => measured.map(node => [nameOf(node), node.fidelity])}>
      <div class="long"><Table caption="Fidelity" rows={measured} columns={[
        { label: "node", value: nameOf, show: node => <button type="button" class="name" onClick={() => { change({ view: "circuit", node: nameOf(node) }); }}>{nameOf(node)}</button> },
        { label: "correlation", right: true, value: node => node.fidelity?.[0], show: node => decimal(node.fidelity?.[0], 2) }, { label: "difference", right: true, value: node => node.fidelity?.[1], show: node => decimal(node.fidelity?.[1], 2) },
        { label: "loss without", right: true, value: node => node.without, show: node => decimal(node.without) }]} /></div></Panel>}
  </>;
}
