// The session in the page's address, after the #: only what differs from the start, so that a link stays short.

import { START, type Intervention, type Session, type View } from "./session";
import { plainNotes } from "./notes";

const VIEWS: View[] = ["overview", "circuit", "card", "compare", "bridge", "finetunes"];

export function toHash(session: Session): string {
  const entries = (Object.keys(START) as (keyof Session)[])
    .filter(key => JSON.stringify(session[key]) !== JSON.stringify(START[key]))
    .map(key => [key, typeof session[key] === "string" ? (session[key] as string) : JSON.stringify(session[key])]);
  return entries.length ? `#${new URLSearchParams(entries)}` : "";
}

// An address comes from anywhere: what does not fit is left at its start.
export function fromHash(hash: string): Session {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const json = (key: string): unknown => {
    try {
      return JSON.parse(given.get(key) ?? "null");
    } catch {
      return null;
    }
  };
  const whole = (key: "circuit" | "pair" | "other") => {
    const value = json(key);
    return Number.isInteger(value) && (value as number) >= 0 ? (value as number) : START[key];
  };
  const list = (key: string): unknown[] => {
    const value = json(key);
    return Array.isArray(value) ? value : [];
  };
  const chosen = <T extends string>(key: string, from: T[], otherwise: T): T =>
    from.find(each => each === given.get(key)) ?? otherwise;
  const threshold = Number(given.get("threshold") ?? 0),
    notes = json("notes");
  return {
    view: chosen("view", VIEWS, START.view),
    circuit: whole("circuit"),
    pair: whole("pair"),
    other: whole("other"),
    side: json("side") === 1 ? 1 : 0,
    meaning: chosen("meaning", ["weight", "flow", "effect"], START.meaning),
    threshold: threshold >= 0 && threshold <= 1 ? threshold : 0,
    merged: json("merged") === true,
    node: given.get("node"),
    path: given.get("path"),
    pinned: list("pinned").filter((each): each is string => typeof each === "string"),
    notes:
      notes && typeof notes === "object"
        ? Object.fromEntries(Object.entries(notes).map(([key, value]) => [key, plainNotes(value)]))
        : {},
    interventions: list("interventions").filter(isIntervention),
    cuts: list("cuts").filter(
      (each): each is [string, string] =>
        Array.isArray(each) && each.length === 2 && each.every(end => typeof end === "string"),
    ),
    theme: chosen<"light" | "dark" | "">("theme", ["light", "dark"], "") || null,
  };
}

function isIntervention(value: unknown): value is Intervention {
  const each = value as Intervention | null;
  return (
    typeof each?.node === "string" &&
    ["ablate", "scale", "set"].includes(each.kind) &&
    (each.value === null || Number.isFinite(each.value))
  );
}
