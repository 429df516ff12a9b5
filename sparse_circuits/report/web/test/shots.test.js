// The screenshots of the documentation are made by this walk, of a larger run.

import assert from "node:assert/strict";
import { it } from "node:test";
import { takeShots } from "./shots.js";
import { SHOTS, urlOf, writePages } from "./pages.js";

it("every view is drawn without an error", async () => {
  writePages("run");
  assert.deepEqual(await takeShots(urlOf("run"), SHOTS, "single_double_quote"), []);
});
