// The asset that Python users get is the build of this source, byte for byte.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { it } from "node:test";
import { fileURLToPath } from "node:url";

const WEB = join(dirname(fileURLToPath(import.meta.url)), "..");

it("page.html is what the source builds", () => {
  const built = join(WEB, "build", "page.html");
  execFileSync("npm", ["run", "build"], { cwd: WEB, env: { ...process.env, PAGE: built } });
  assert.ok(readFileSync(built).equals(readFileSync(join(WEB, "..", "page.html"))), "run `make web` and commit page.html");
});

it("the lock file names no registry", () => {
  assert.doesNotMatch(readFileSync(join(WEB, "package-lock.json"), "utf8"), /"resolved"|https?:\/\/registry/);
});
