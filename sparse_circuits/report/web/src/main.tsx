// Read the payload, take up the address, draw.

import "./style/page.css";
import "./style/parts.css";
import "./style/graph.css";
import { effect } from "@preact/signals";
import { render } from "preact";
import { fromHash, toHash } from "./address";
import { listen } from "./keys";
import { readPayload } from "./payload/read";
import { fetchPairs } from "./prompt";
import { payload, session } from "./session";
import { Page } from "./views/Page";

const place = document.getElementById("page") as HTMLElement;

function theme(): void {
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = session.value.theme ?? (isDark ? "dark" : "light");
}

// A frame without an address of its own, as in a notebook, keeps the session in memory alone.
function keepAddress(): void {
  try {
    history.replaceState(null, "", toHash(session.value) || location.pathname + location.search);
  } catch {
    /* see above */
  }
}

try {
  payload.value = await readPayload(document.getElementById("payload")?.textContent ?? "");
  // A page of one circuit opens on it.
  session.value = location.hash
    ? fromHash(location.hash)
    : { ...session.value, view: payload.value.circuits.length === 1 && !payload.value.run ? "circuit" : "overview" };
  effect(theme);
  effect(keepAddress);
  addEventListener("hashchange", () => {
    session.value = fromHash(location.hash);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", theme);
  listen();
  fetchPairs();
  render(<Page />, place);
} catch (error) {
  place.className = "broken";
  place.textContent = (error as Error).message;
}
document.documentElement.dataset.ready = "true";
