// Pages written by Python through the code that users run; PYTHON says which.

import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), "../../../..");
export const PYTHON = process.env.PYTHON ?? "python3";
export const DOCS = join(ROOT, "docs");
const FOLDER = join(dirname(fileURLToPath(import.meta.url)), "../build/pages");
export const SHOTS = join(FOLDER, "../shots");

export function writePages(...names) {
  mkdirSync(FOLDER, { recursive: true });
  execFileSync(PYTHON, ["-m", "tests.report.pages", FOLDER, ...names], {
    cwd: ROOT,
    stdio: "inherit",
  });
}

export const pathOf = name => join(FOLDER, `${name}.html`);
export const urlOf = (name, hash = "") => pathToFileURL(pathOf(name)).href + hash;
