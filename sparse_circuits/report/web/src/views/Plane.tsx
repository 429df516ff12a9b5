// The picture of a circuit: tokens from left to right, sublayers from bottom to top, channels of the stream as vertical wires.

import { useEffect, useMemo, useRef } from "preact/hooks";
import type { ComponentChildren, Ref } from "preact";
import type { Circuit } from "../payload/types";
import type { Prompt } from "../payload/prompt";
import type { Meaning } from "../session";
import { LEFT, layoutOf, logitWidth, PILL, PILL_HEIGHT, type Layout, type Place } from "../graph/layout";
import type { Line, LineKind, Unrolled } from "../graph/unroll";
import { pan, type Pan } from "../graph/pan";
import { isEnd, isHead, kindOf, nameOf, partOf } from "../names";
import { decimal, exact, known, percent, signed, signOf, visible, type Maybe } from "../numbers";
import { hideTip, showTip } from "../parts/tip";
import { heat } from "../parts/Heat";

export interface Look {
  meaning: Meaning;
  threshold: number;
  // Names of nodes.
  node: string | null;
  pinned: string[];
  found: Set<string> | null;
  labels: Record<string, string>;
  // Places in the plane; null: nothing is traced.
  traced: { lines: Set<number>; spots: Set<number> } | null;
  gone: { nodes: Set<string>; cuts: Set<string> };
  // A class for every node, such as which of two circuits it is in.
  kinds?: Map<number, string>;
}

interface Props {
  circuit: Circuit;
  plane: Unrolled;
  prompt: Prompt | null;
  look: Look;
  onNode: (name: string) => void;
  onEdge?: (source: string, target: string) => void;
  control?: Ref<Pan>;
}

const MEANINGS: Record<Meaning, (line: Line) => Maybe> = { weight: line => line.weight, flow: line => line.flow, effect: line => line.effect };
const N_LABELLED = 40;
const WORDS: Record<LineKind, string> = { edge: "weight of the circuit", readout: "weight of the unembedding, last norm's gain included", stream: "carried by the residual stream", match: "query and key meet in the head's score" };

export const valueOf = (line: Line, meaning: Meaning): Maybe => MEANINGS[meaning](line);

function strengths(plane: Unrolled, meaning: Meaning): number[] {
  const largest = new Map<LineKind, number>();
  const sizes = plane.lines.map(line => Math.abs(valueOf(line, meaning) ?? 0));
  plane.lines.forEach((line, i) => largest.set(line.kind, Math.max(largest.get(line.kind) ?? 1e-30, sizes[i])));
  return sizes.map((size, i) => size / (largest.get(plane.lines[i].kind) as number));
}

export function PlaneView({ circuit, plane, prompt, look, onNode, onEdge, control }: Props) {
  const frame = useRef<HTMLDivElement>(null), picture = useRef<SVGSVGElement>(null), moved = useRef<Pan | null>(null);
  const isTokens = prompt !== null && plane.tokens.some(token => token > 0);
  const layout = useMemo(() => layoutOf(circuit, plane, isTokens ? prompt.tokens : null), [circuit, plane]);
  const strength = useMemo(() => strengths(plane, look.meaning), [plane, look.meaning]);
  // Each node on its own scale, over the whole prompt.
  const tint = useMemo(() => isTokens ? circuit.nodes.map((_, i) => Math.max(0, ...prompt.activations(i).map(Math.abs))) : [], [circuit, prompt, isTokens]);
  useEffect(() => {
    const found = pan(frame.current as HTMLElement, picture.current as SVGSVGElement);
    moved.current = found;
    if (control && typeof control === "object") control.current = found;
    found.fit();
    return () => found.stop();
  }, [layout]);

  const selected = new Set(plane.spots.flatMap((spot, i) => look.node !== null && nameOf(circuit.nodes[spot.node]) === look.node ? [i] : []));
  useEffect(() => {
    const first = [...selected].at(-1);
    if (first !== undefined) moved.current?.show(layout.at[first].x, layout.at[first].y);
  }, [look.node, layout]);

  const isActive = (i: number) => look.traced ? look.traced.lines.has(i) : selected.has(plane.lines[i].from) || selected.has(plane.lines[i].to);
  const isShown = (i: number) => isActive(i) || plane.lines[i].kind === "stream" || plane.lines[i].kind === "match" && look.threshold < 1 || strength[i] >= look.threshold;
  const near = new Set(look.traced ? look.traced.spots : [...selected, ...plane.lines.flatMap((line, i) => isActive(i) ? [line.from, line.to] : [])]);
  const linked = new Set(plane.lines.flatMap((line, i) => line.kind !== "stream" && isShown(i) ? [line.from, line.to] : []));
  const isFocused = near.size > 0;
  const weighed = plane.lines.flatMap((line, i) => (line.kind === "edge" || line.kind === "readout") && isShown(i) ? [i] : []);
  const labelled = isFocused ? weighed.filter(isActive) : weighed.length <= N_LABELLED ? weighed : [];

  const keyed = (event: KeyboardEvent, i: number) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) focusOn(nearest(layout.at, i, step[0], step[1]));
    else if (event.key === "Enter" || event.key === " ") onNode(nameOf(circuit.nodes[plane.spots[i].node]));
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const focusOn = (i: number) => {
    moved.current?.show(layout.at[i].x, layout.at[i].y);
    picture.current?.querySelector<SVGGElement>(`[data-spot="${i}"]`)?.focus({ preventScroll: true });
  };

  const row = (children: ComponentChildren) => <svg class="rows" viewBox={`0 0 ${LEFT} ${layout.height}`} preserveAspectRatio="xMinYMin" aria-hidden="true">{children}</svg>;
  return <div class="frame" ref={frame}>
    {row(layout.bands.map((band, i) => <rect class={`band ${i % 2 ? "odd" : ""}`} x="0" y={band.y} width="6000" height={band.height} />))}
    <div class="mover"><svg ref={picture} class={`picture graph ${isFocused ? "focus" : ""}`} viewBox={`0 0 ${layout.width} ${layout.height}`} role="group" aria-label={`Graph of the circuit ${circuit.task}: arrow keys walk between nodes, Enter selects`}>
      <Ground layout={layout} prompt={isTokens ? prompt : null} look={look} circuit={circuit} />
      {layout.wires.map(wire => <line class="wire" x1={wire.x} x2={wire.x} y1={wire.y1} y2={wire.y2} />)}
      {plane.lines.map((line, i) => isShown(i) && (line.kind !== "stream" || isActive(i)) && <Link key={i} line={line} circuit={circuit} plane={plane} d={curve(layout, plane, line)} strength={strength[i]}
        value={valueOf(line, look.meaning)} isActive={isActive(i)} isCut={look.gone.cuts.has(endsOf(circuit, plane, line).join(" → "))} onEdge={onEdge} prompt={isTokens ? prompt : null} kind={look.kinds && linkKind(look.kinds, plane, line)} />)}
      {plane.spots.map((spot, i) => {
        const node = circuit.nodes[spot.node], name = nameOf(node);
        const isHidden = look.threshold > 0 && !linked.has(i) && !selected.has(i) && !isEnd(node) && node.site !== "final_resid" && isInnerNode(node.site);
        if (isHidden) return null;
        const width = node.site === "logits" ? logitWidth(i, plane, circuit) : PILL;
        const classes = ["spot", isEnd(node) && "end", selected.has(i) && "selected", near.has(i) && "near", look.pinned.includes(name) && "pinned", look.gone.nodes.has(name) && "gone",
          look.found && (look.found.has(name) ? "found" : "unfound"), look.kinds?.get(spot.node)].filter(Boolean).join(" ");
        const largest = tint[spot.node] ?? 0;
        const held = isTokens && node.site !== "logits" ? prompt.activation(spot.node, spot.token) : null;
        return <g class={classes} data-spot={i} data-node={name} tabindex={i === 0 ? 0 : -1} role="button" aria-pressed={selected.has(i)} aria-label={look.labels[name] ? `${name}, ${look.labels[name]}` : name}
          transform={`translate(${layout.at[i].x} ${layout.at[i].y})`} onClick={() => onNode(name)} onKeyDown={event => keyed(event, i)}
          onPointerMove={event => showTip(event, <><b>{name}</b>{look.labels[name] && <div>“{visible(look.labels[name], 80)}”</div>}
            {isTokens && <div>at token <span class="token">{visible(prompt.tokens[spot.token])}</span></div>}{held !== null && <div>activation {signed(held)}</div>}{known(node.without) && <div>loss without it {decimal(node.without)}</div>}</>)} onPointerLeave={hideTip}>
          <rect x={-width / 2} y={-PILL_HEIGHT / 2} width={width} height={PILL_HEIGHT} rx={isHead(node.site) ? 4 : PILL_HEIGHT / 2} />
          {held !== null && <rect class="tint" x={-width / 2} y={-PILL_HEIGHT / 2} width={width} height={PILL_HEIGHT} rx={isHead(node.site) ? 4 : PILL_HEIGHT / 2} style={{ fill: heat(0.6 * held, largest) }} />}
          <text text-anchor="middle" y="3.5">{node.site === "logits" ? visible(node.text ?? "", 14) : isHead(node.site) ? `${partOf(node.site)}${node.channel}` : node.channel}</text>
          {look.labels[name] && <text class="note" text-anchor="middle" y={-PILL_HEIGHT / 2 - 3}>{visible(look.labels[name], 14)}</text>}
        </g>;
      })}
      {labelled.map(i => {
        const line = plane.lines[i], value = valueOf(line, look.meaning), [x, y] = middle(layout, line, isFocused && !look.traced ? selected : null);
        return known(value) && <text class={`number ${signOf(value)}`} x={x} y={y} text-anchor="middle">{signed(value, 2)}</text>;
      })}
    </svg></div>
    {row(layout.bands.map(band => <text x="14" y={band.y + band.height / 2 + 4}>{bandName(band.name)}</text>))}
  </div>;
}

const isInnerNode = (site: string) => isHead(site) || kindOf(site) === "mlp.post_act";
const endsOf = (circuit: Circuit, plane: Unrolled, line: Line): [string, string] => [nameOf(circuit.nodes[plane.spots[line.from].node]), nameOf(circuit.nodes[plane.spots[line.to].node])];

function linkKind(kinds: Map<number, string>, plane: Unrolled, line: Line): string {
  const ends = [line.from, line.to].map(end => kinds.get(plane.spots[end].node));
  return ends.find(kind => kind === "left" || kind === "right") ?? "";
}

function Ground({ layout, prompt, look, circuit }: { layout: Layout; prompt: Prompt | null; look: Look; circuit: Circuit }) {
  const chosen = prompt && look.node ? circuit.nodes.findIndex(node => nameOf(node) === look.node) : -1;
  const values = prompt && chosen >= 0 ? prompt.activations(chosen) : [], largest = Math.max(...values.map(Math.abs), 1e-9);
  return <>
    {layout.columns.map(column => <g class="column">
      {prompt && <>
        <rect class="text" x={column.x - 4} width={column.width + 8} y={layout.bottom + 22} height="24" rx="5" style={values.length ? { fill: heat(values[column.token], largest) } : undefined} />
        <text x={column.x + column.width / 2} y={layout.bottom + 38} text-anchor="middle">{visible(prompt.tokens[column.token], 18)}</text>
        <text class="faint" x={column.x + column.width / 2} y={layout.bottom + 58} text-anchor="middle">{column.token === prompt.tokens.length - 1 ? "answer is read here" : `token ${column.token + 1}`}</text>
        {column.skipped > 0 && <text class="faint" x={column.x - 23} y={layout.bottom + 38} text-anchor="middle">⋯{column.skipped}</text>}
      </>}
    </g>)}
    {layout.boxes.map(box => <g class="head"><rect x={box.x} y={box.y} width={box.width} height={box.height} rx="7" /><text x={box.x + 4} y={box.y - 3}>{box.text}</text></g>)}
  </>;
}

const bandName = (name: string): string => name === "embed" ? "embedding" : name === "final_resid" ? "final stream" : name === "logits" ? "answers"
  : `layer ${name.split(".")[0]} ${name.endsWith("mlp") ? "MLP" : "attention"}`;

interface LinkProps { line: Line; circuit: Circuit; plane: Unrolled; d: string; strength: number; value: Maybe; isActive: boolean; isCut: boolean; onEdge?: Props["onEdge"]; prompt: Prompt | null; kind?: string }

function Link({ line, circuit, plane, d, strength, value, isActive, isCut, onEdge, prompt, kind }: LinkProps) {
  const [source, target] = endsOf(circuit, plane, line);
  const isAcross = plane.spots[line.from].token !== plane.spots[line.to].token;
  const classes = ["link", line.kind, signOf(line.kind === "match" ? line.flow : value), isAcross && "across", isActive && "active", isCut && "cut", !known(value) && line.kind !== "stream" && "unmeasured", kind].filter(Boolean).join(" ");
  return <g>
    <path class={classes} d={d} stroke-width={line.kind === "stream" ? 2 : line.kind === "match" ? 1.2 : 0.8 + 4 * strength} />
    <path class="reach" d={d} data-edge={`${source} → ${target}`} onClick={() => onEdge?.(source, target)} onPointerLeave={hideTip} onPointerMove={event => showTip(event, <>
      <div class="mono">{source} → {target}</div><div class="muted">{WORDS[line.kind]}</div>
      {line.weight !== null && <div>weight <b>{exact(line.weight)}</b></div>}
      {known(line.flow) && line.kind !== "stream" && <div>{line.kind === "match" ? "product of query and key" : "weight × activation"} <b>{signed(line.flow)}</b></div>}
      {line.share !== undefined && prompt && <div>attention {percent(line.share, 0)} from {visible(prompt.tokens[plane.spots[line.to].token])} to {visible(prompt.tokens[plane.spots[line.from].token])}</div>}
      {known(line.effect) && <div>without it the loss rises by <b>{decimal(line.effect)}</b></div>}</>)} />
  </g>;
}

function curve(layout: Layout, plane: Unrolled, line: Line): string {
  const from = layout.at[line.from], to = layout.at[line.to], half = PILL_HEIGHT / 2;
  if (line.kind === "match") {
    const lift = plane.spots[line.from].token === plane.spots[line.to].token ? 16 : 24;
    return `M${from.x} ${from.y + half}C${from.x} ${from.y + half + lift} ${to.x} ${to.y + half + lift} ${to.x} ${to.y + half}`;
  }
  const [y1, y2] = [from.y - half, to.y + half], bend = (y1 - y2) * 0.5;
  return `M${from.x} ${y1}C${from.x} ${y1 - bend} ${to.x} ${y2 + bend} ${to.x} ${y2}`;
}

// At the end away from the selected node, where its lines have parted.
function middle(layout: Layout, line: Line, selected: Set<number> | null): [number, number] {
  const from = layout.at[line.from], to = layout.at[line.to];
  if (selected?.has(line.from)) return [to.x, to.y + PILL_HEIGHT / 2 + 12];
  if (selected?.has(line.to)) return [from.x, from.y - PILL_HEIGHT / 2 - 4];
  return [(from.x + to.x) / 2, (from.y + to.y) / 2 + 3];
}

function nearest(at: Place[], here: number, dx: number, dy: number): number {
  const cost = ({ x, y }: Place) => {
    const [ahead, aside] = dx ? [(x - at[here].x) * dx, Math.abs(y - at[here].y)] : [(y - at[here].y) * dy, Math.abs(x - at[here].x)];
    return ahead > 1 ? ahead + 3 * aside : Infinity;
  };
  return at.reduce((best, place, i) => cost(place) < cost(at[best]) ? i : best, here);
}
