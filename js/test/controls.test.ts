// A training under way says how it stands; a page of it says when it was saved.
import assert from "node:assert/strict";
import { test } from "node:test";
import { panels } from "../views/controls.ts";

function scene(state: string, live: boolean): any {
  const content = { state, readouts: [["trained to step", "1412", "of 4000"]], pace: "38.2 steps/s", cost: "", trouble: "", disabled: {}, rate: "" };
  return { view: { content }, board: { steps: [] }, look: { step: 0 }, live };
}

test("a page of a training says at which step it was saved", () => {
  assert.equal(panels[0]!.says(scene("training", true)), "training, 38.2 steps/s. trained to step 1412 of 4000.");
  assert.ok(panels[0]!.says(scene("training", false)).startsWith("saved at step 1\u2009412, while it trained."));
  assert.ok(panels[0]!.says(scene("paused", false)).startsWith("saved at step 1\u2009412, while it was paused."));
  assert.ok(panels[0]!.says(scene("finished", false)).startsWith("finished"));
  assert.deepEqual(panels[0]!.controls!(scene("training", false)), []);
});
