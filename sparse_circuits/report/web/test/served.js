// A run and the server behind its page: `sparse-circuits view`, as a user starts it.

import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { PYTHON, ROOT } from "./pages.js";

// Writes the run; `expected` is what Python's direct calls on its files answer.
export function writeRun() {
  const folder = mkdtempSync(join(tmpdir(), "served-"));
  return { folder, expected: python("write", folder), remove: () => rmSync(folder, { recursive: true }) };
}

// Of a run only its circuits, in a folder inside it.
export function circuitsAlone(folder) {
  const alone = join(folder, "alone");
  cpSync(join(folder, "circuits"), join(alone, "circuits"), { recursive: true });
  return alone;
}

// Labels and groups, as the circuit's file has them.
export const notesIn = folder => python("notes", folder);

const python = (what, folder) =>
  JSON.parse(execFileSync(PYTHON, ["-m", "tests.report.served", what, folder], { cwd: ROOT, encoding: "utf8" }));

export async function view(folder) {
  const server = spawn(PYTHON, ["-m", "sparse_circuits.cli", "view", `run=${folder}`], {
    cwd: ROOT,
    stdio: ["ignore", "pipe", "inherit"],
  });
  for await (const line of createInterface({ input: server.stdout }))
    if (line.startsWith("http://")) return { server, address: line };
  throw new Error("the server ended before it printed an address");
}
