// The frame of the page: bar, the view that was chosen, help.

import { circuit, openCircuit, payload, session, change, type View } from "../session";
import { isHelpOpen, KEYS, toggleTheme } from "../keys";
import { query } from "../search";
import { Message, copy } from "../parts/message";
import { Tip } from "../parts/tip";
import { BridgeView } from "./BridgeView";
import { CardView } from "./CardView";
import { CircuitView } from "./CircuitView";
import { CompareView } from "./CompareView";
import { FinetunesView } from "./FinetunesView";
import { Overview } from "./Overview";

const VIEWS: [View, string][] = [
  ["overview", "Overview"],
  ["circuit", "Circuit"],
  ["card", "Card"],
  ["compare", "Compare"],
  ["bridge", "Bridge"],
  ["finetunes", "Finetunes"],
];

export function Page() {
  const data = payload.value,
    own = circuit.value;
  // Finetunes are mostly alone in their folder; where there are none, there is nothing to open either.
  const isOfFinetunes = data.finetunes && !data.run && !data.circuits.length,
    views = isOfFinetunes ? VIEWS.slice(-1) : data.finetunes ? VIEWS : VIEWS.slice(0, -1),
    view = isOfFinetunes ? "finetunes" : session.value.view;
  const noCircuit = (
    <section class="panel">
      <p class="none">This run has no circuit yet: `sparse-circuits extract` finds them.</p>
    </section>
  );
  return (
    <>
      <a
        class="skip"
        href="#content"
        onClick={event => {
          event.preventDefault();
          document.getElementById("content")?.focus();
        }}
      >
        Skip to the content
      </a>
      <nav id="bar" aria-label="Views">
        <span class="brand">{data.run?.name ?? "sparse_circuits"}</span>
        <span class="tabs">
          {views.map(([key, title]) => (
            <button type="button" aria-current={view === key ? "page" : undefined} onClick={() => change({ view: key })}>
              {title}
            </button>
          ))}
        </span>
        {data.circuits.length > 0 && (view === "circuit" || view === "card") && (
          <label class="pick">
            Circuit{" "}
            <select value={session.value.circuit} onChange={event => openCircuit(Number(event.currentTarget.value), view)}>
              {data.circuits.map((each, i) => (
                <option value={i}>{each.task}</option>
              ))}
            </select>
          </label>
        )}
        {view === "circuit" && (
          <label class="pick">
            Find{" "}
            <input
              id="search"
              type="search"
              value={query.value}
              placeholder="node, label or group"
              title="Press / to come here, Enter for the next"
              onInput={event => {
                query.value = event.currentTarget.value;
              }}
            />
          </label>
        )}
        <span class="right">
          {data.live && <span class="badge known">model is live</span>}
          <button type="button" onClick={() => copy(location.href)} title="The address holds everything that you have chosen">
            Copy link
          </button>
          <button type="button" onClick={toggleTheme} aria-label="Dark or light">
            ◐
          </button>
          <button
            type="button"
            onClick={() => {
              isHelpOpen.value = true;
            }}
            aria-label="Keys and help"
          >
            ?
          </button>
        </span>
      </nav>
      <main id="content" tabIndex={-1}>
        {view === "overview" ? (
          <Overview payload={data} />
        ) : view === "compare" ? (
          <CompareView payload={data} />
        ) : view === "bridge" ? (
          <BridgeView payload={data} />
        ) : view === "finetunes" ? (
          <FinetunesView finetunes={data.finetunes} />
        ) : !own ? (
          noCircuit
        ) : view === "card" ? (
          <CardView circuit={own} />
        ) : (
          <CircuitView key={session.value.circuit} circuit={own} />
        )}
        <footer>
          Made by sparse_circuits {data.run?.versions?.["sparse-circuits"]}; data {data.schema.name} {data.schema.version}.{" "}
          {data.live
            ? "Nothing leaves this machine: the page talks to the server that sent it, and to nobody else."
            : "One file: nothing is fetched, nothing is sent."}
        </footer>
      </main>
      {isHelpOpen.value && (
        <div
          class="shade"
          onClick={() => {
            isHelpOpen.value = false;
          }}
        >
          <dialog open aria-label="Keys">
            <h3>Keys</h3>
            <dl class="facts">
              {KEYS.map(([key, does]) => (
                <>
                  <dt>
                    <kbd>{key}</kbd>
                  </dt>
                  <dd>{does}</dd>
                </>
              ))}
            </dl>
            <p class="about">
              Drag the picture to move it, Ctrl and the wheel zoom. Hover a line for its exact weight. The address of the page
              holds everything that you have chosen and written: a copied link, or the file with it, shows the same.
            </p>
          </dialog>
        </div>
      )}
      <Tip />
      <Message />
    </>
  );
}
