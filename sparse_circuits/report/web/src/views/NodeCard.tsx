// Everything known of one node.

import { useState } from "preact/hooks";
import type { Circuit, GraphNode } from "../payload/types";
import { promptOf } from "../prompt";
import { change, payload, selectNode, session } from "../session";
import { groupsOf, label, notes, toggleInGroup } from "../notes";
import { isEnd, isHead, isPosition, isStream, nameOf, pythonOf, roleOf } from "../names";
import { decimal, known } from "../numbers";
import { Panel } from "../parts/Panel";
import { Token, Weight } from "../parts/text";
import { copy } from "../parts/message";
import { Activations } from "./Activations";
import { AttentionPattern } from "./AttentionPattern";
import { Behaviour } from "./Behaviour";
import { NodeEdges } from "./NodeEdges";
import { NodeEdits } from "./NodeEdits";

export function NodeCard({ circuit, place }: { circuit: Circuit; place: number }) {
  const node = circuit.nodes[place],
    name = nameOf(node),
    behaviour = payload.value.samples[circuit.model_hash]?.nodes[name];
  const data = () => ({
    name,
    label: notes.value.labels[name],
    groups: groupsOf(name),
    ...node,
    pair: [promptOf(0), promptOf(1)].map(
      each =>
        each && {
          tokens: each.tokens,
          ...Object.fromEntries(each.wheres.map(where => [where, each.activations(place, where)])),
        },
    ),
    behaviour,
  });
  return (
    <Panel
      title={name}
      data={data}
      class="card"
      tools={
        <button type="button" class="close" aria-label="Close the node" onClick={() => selectNode(null)}>
          ✕
        </button>
      }
    >
      <p class="role">{roleOf(node, circuit)}</p>
      <Names node={node} />
      <Facts circuit={circuit} node={node} />
      {payload.value.live && !isEnd(node) && <NodeEdits name={name} />}
      {node.site !== "logits" && <Activations place={place} />}
      <NodeEdges circuit={circuit} place={place} />
      {isHead(node.site) && <AttentionPattern circuit={circuit} node={node} />}
      {isStream(node.site) && !isPosition(node, circuit) && <ChannelTokens circuit={circuit} node={node} />}
      {!isEnd(node) && <Behaviour circuit={circuit} name={name} />}
    </Panel>
  );
}

function Names({ node }: { node: GraphNode }) {
  const name = nameOf(node),
    isPinned = session.value.pinned.includes(name),
    [group, setGroup] = useState("");
  const join = (event: Event) => {
    event.preventDefault();
    if (group.trim()) {
      toggleInGroup(group.trim(), name);
      setGroup("");
    }
  };
  return (
    <div class="names">
      {!isEnd(node) && (
        <label>
          Label{" "}
          <input
            id="label"
            type="text"
            value={notes.value.labels[name] ?? ""}
            placeholder="what this node does, in your words"
            onChange={event => label(name, event.currentTarget.value.trim())}
          />
        </label>
      )}
      {!isEnd(node) && (
        <form onSubmit={join}>
          <label>
            Group{" "}
            <input
              type="text"
              list="groups"
              value={group}
              placeholder="add to a group"
              onInput={event => setGroup(event.currentTarget.value)}
            />
          </label>
          <datalist id="groups">
            {notes.value.groups.map(each => (
              <option value={each.name} />
            ))}
          </datalist>
          {groupsOf(name).map(each => (
            <button type="button" class="chip" title="Take it out of this group" onClick={() => toggleInGroup(each, name)}>
              {each} ✕
            </button>
          ))}
        </form>
      )}
      <div class="row">
        <button
          type="button"
          onClick={() =>
            change({ pinned: isPinned ? session.value.pinned.filter(each => each !== name) : [...session.value.pinned, name] })
          }
        >
          {isPinned ? "Unpin" : "Pin"}
        </button>
        <button type="button" onClick={() => copy(pythonOf(node))} title={pythonOf(node)}>
          Copy as Python
        </button>
      </div>
    </div>
  );
}

function Facts({ circuit, node }: { circuit: Circuit; node: GraphNode }) {
  const merges = circuit.merges.filter(each => each.into === nameOf(node));
  const rises = known(node.without) && known(circuit.target_loss);
  if (!rises && !node.fidelity && !merges.length) return null;
  return (
    <ul class="facts">
      {rises && (
        <li>
          Without this node alone, the circuit's loss on validation pairs is at least <b>{decimal(node.without)}</b>; it has to
          stay below {decimal(circuit.target_loss)}.
        </li>
      )}
      {node.fidelity && (
        <li>
          Over tokens, its activation in the circuit correlates with that in the whole model by{" "}
          <b>{decimal(node.fidelity[0], 2)}</b>; they differ by {decimal(node.fidelity[1], 2)} of its size.
        </li>
      )}
      {merges.map(each => (
        <li>
          It writes for <code>{each.node}</code> as well, times {decimal(each.ratio, 2)} (R² {decimal(each.r_squared, 2)}).
        </li>
      ))}
    </ul>
  );
}

function ChannelTokens({ circuit, node }: { circuit: Circuit; node: GraphNode }) {
  const channel = circuit.channels[node.channel];
  if (!channel) return null;
  const list = (title: string, about: string, tokens: [number, number | null][]) => (
    <div>
      <h5 title={about}>{title}</h5>
      {tokens.length ? (
        <ul class="tokens">
          {tokens.map(([text, weight]) => (
            <li>
              <Token text={payload.value.texts[text]} />
              <Weight value={weight} />
            </li>
          ))}
        </ul>
      ) : (
        <p class="none">no weight at all</p>
      )}
    </div>
  );
  return (
    <section>
      <h4>Residual channel {node.channel}</h4>
      <div class="two">
        {list("Embedding writes", "The tokens whose embedding writes most to this channel, up and down", channel.embed)}
        {list(
          "Unembedding reads",
          "The tokens whose logits this channel moves most, the last norm's gain included",
          channel.unembed,
        )}
      </div>
    </section>
  );
}
