// The timeline of events: where its words stand, and where its marks lead.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ends, next_event, panels, rows, type Event } from "../views/events.ts";
import { panels as curve, log_step } from "../views/training.ts";

const event = (step: number, more: Partial<Event> = {}): Event =>
  ({ step, name: "loss_drop", title: "loss drop", short: "9 %", layer: null, head: null, evidence: "It fell.", false_if: "It would be false if not.", ...more });
const list = [event(10), event(200, { title: "induction head formed", layer: 1, head: 3 }), event(210)];

const numbers = (values: number[]) => ({ shape: [values.length], axes: ["point"], values: Int32Array.from(values) });
function scene(spot: number | null = null): any {
  const view = { kind: "events", title: "Events", subtitle: "", arrays: {}, labels: {}, content: { events: list } };
  const loss = { kind: "training", title: "Loss", subtitle: "", arrays: { steps_0: numbers([0, 1000]), values_0: numbers([3, 1]) }, labels: { series: ["train"] } };
  return { view, views: [view, loss], board: { steps: [0, 200, 1000] }, look: { step: 200 }, spot, theme: { sans: "sans", mono: "mono" }, measure: (words: string) => 6 * words.length };
}

test("words never overlap, and a mark without room keeps only its mark", () => {
  assert.deepEqual(rows([100, 110, 300, 105], [80, 80, 80, 80], 1000), [0, 1, 0, 2]);
  assert.deepEqual(rows([5, 5, 5, 5, 5], [50, 50, 50, 50, 50], 400), [0, 1, 2, 3, -1]);
});

test("the axis is the loss panel's", () => {
  assert.deepEqual(ends(scene()), [0, 1000]);
  const line = panels[0]!.layout(scene(), 1000), plot = curve[0]!.layout({ ...scene(), view: scene().views[1] }, 1000);
  assert.equal(line.left, plot.left);
  assert.equal(line.right, plot.right);
  const share = log_step(200) / log_step(1000);
  assert.ok(Math.abs(line.marks[1].x - (plot.left + share * (plot.right - plot.left))) < 1e-9);
});

test("the axis has numbers, the step that is looked at among them", () => {
  const words: string[] = [], own: any = { fillText: (text: string) => words.push(text), measureText: (text: string) => ({ width: 6 * text.length }) };
  const ctx = new Proxy(own, { get: (target, key) => target[key] ?? (() => undefined) });
  panels[0]!.mark(ctx, panels[0]!.layout(scene(), 1000), scene());
  for (const step of ["0", "200", "1 000"]) assert.ok(words.map((one) => one.replace(/\s/g, " ")).includes(step), step);
});

test("a mark leads to its step and head", () => {
  const line = panels[0]!.layout(scene(), 1000), one = line.marks[1];
  assert.deepEqual(panels[0]!.hit(line, one.x, line.rail - 4, scene()), { at: { step: 200, layer: 1, head: 3 }, spot: 1 });
  assert.equal(panels[0]!.hit(line, line.left + 1, line.rail - 4, scene()), null);
  assert.equal(panels[0]!.hit(line, one.x, line.height - 1, scene()), null);
});

test("arrows walk from event to event", () => {
  assert.deepEqual(next_event("ArrowRight", list, 10), { selection: { step: 200, layer: 1, head: 3 } });
  assert.deepEqual(next_event("ArrowLeft", list, 200), { selection: { step: 10 } });
  assert.equal(next_event("ArrowRight", list, 210), null);
  assert.deepEqual(next_event("Home", list, 500), { selection: { step: 10 } });
});

test("a run without events says so to a screen reader", () => {
  const quiet = scene();
  quiet.view.content.events = [];
  assert.equal(panels[0]!.says(quiet), "No event so far.");
});
