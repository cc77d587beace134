// Curves of heads and bands of numbers through training.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { decode_view, type RawBoard } from "../payload.ts";
import { at, panels as bands, scale_of, terse } from "../views/distributions.ts";
import { curve_of, curves_of, panels as curves } from "../views/head_curves.ts";
import { panels as loss } from "../views/training.ts";

const golden: RawBoard = JSON.parse(readFileSync("../tests/golden/progress.json", "utf8"));
const [scores, spread] = golden.views.map((view) => decode_view(view));

function scene(view: any, options: object, more: object = {}): any {
  return { view, views: [scores, spread], board: { steps: golden.steps }, look: { step: 10, layer: 0, head: 1 }, options, theme: { sans: "sans", mono: "mono" }, measure: (words: string) => 6 * words.length, ...more };
}

test("the curve that stands out is the head's own numbers", () => {
  const { shown, quiet } = curves_of(scores!, "stands_out");
  assert.deepEqual(shown.map(({ name }) => name), ["induct L0H1"]);
  assert.equal(quiet.length, 0);
  assert.deepEqual([...shown[0]!.values].map((value) => value.toFixed(1)), ["0.2", "NaN", "0.9"]);
});

test("of one score all heads are there, the highest in front", () => {
  const { shown } = curves_of(scores!, "entropy");
  assert.deepEqual(shown.map(({ head }) => head), [0, 1]);
  assert.equal(curve_of(scores!, 1, 0, 0).name, "entropy L0H0");
});

/** The words that a panel writes. */
function written(panel: any, here: any): string[] {
  const words: string[] = [], own: any = { fillText: (text: string) => words.push(text), measureText: (text: string) => ({ width: 6 * text.length }) };
  const ctx = new Proxy(own, { get: (target, key) => target[key] ?? (() => undefined) });
  panel.draw(ctx, panel.layout(here, 1000), here);
  return words;
}

test("a curve that ends in NaN is named so, below the others", () => {
  const value = scores!.arrays.value_1!, ended = Float32Array.from(value.values);
  ended[ended.length - 2] = NaN; // L0H0 at the last step, as of a run that diverged
  const view = { ...scores!, arrays: { ...scores!.arrays, value_1: { ...value, values: ended } } };
  const words = written(curves[0]!, scene(view, { score: "entropy" }, { theme: { series: ["red", "blue", "green", "grey"] } }));
  assert.deepEqual(curves_of(view, "entropy").shown.map(({ head }) => head), [1, 0]);
  assert.equal(words[words.indexOf("entropy L0H0") + 1], "NaN");
  assert.equal(words[words.indexOf("entropy L0H1") + 1], "0.10");
});

test("the values at a step stand where no curve is, and charts of numbers name their steps", () => {
  const line_of = (values: number[]) => {
    const lines = new Map<string, number>(), own: any = { fillText: (text: string, _: number, y: number) => lines.set(text, y), measureText: (text: string) => ({ width: 6 * text.length }) };
    const steps = Float32Array.from(values, (_, i) => i), array = (numbers: Float32Array) => ({ shape: [numbers.length], axes: ["step"], values: numbers });
    const view = { kind: "training", labels: { series: ["train"] }, arrays: { steps_0: array(steps), values_0: array(Float32Array.from(values)) } };
    const here = scene(view, {}, { board: { steps: [...steps] }, look: { step: 10 }, theme: { series: ["red"] } }), plot = loss[0]!.layout(here, 1000);
    loss[0]!.mark(new Proxy(own, { get: (target, key) => target[key] ?? (() => undefined) }), plot, here);
    return { line: lines.get("step 10")!, middle: (plot.top + plot.bottom) / 2 };
  };
  const high = line_of(Array(11).fill(0.99)), low = line_of([1, ...Array(10).fill(0.01)]);
  assert.ok(high.line > high.middle);
  assert.ok(low.line < low.middle);
  const words = written(bands[0]!, scene(spread, {}, { theme: { series: ["red"] } }));
  assert.ok(words.includes("step →") && words.includes("10"));
});

test("a curve leads to its head, the empty chart to its step", () => {
  const panel = curves[0]!, here = scene(scores, { score: "stands_out" }), plot = panel.layout(here, 1000);
  const y = plot.bottom - 0.9 * (plot.bottom - plot.top);
  assert.deepEqual(panel.hit(plot, plot.right, y, here), { at: { layer: 0, head: 1 } });
  const empty = panel.hit(plot, plot.left, plot.top + 4, here)!;
  assert.equal(empty.drag, "step");
  assert.deepEqual(panel.drag!(plot, empty, plot.left, 0, here), { selection: { step: 0 } });
  assert.equal(panel.says(here), "Step 10: induct L0H1 0.90.");
});

test("without a head that stands out the first score is shown", () => {
  const none = { ...scores!, arrays: { ...scores!.arrays, stands_out: { shape: [0, 3], axes: [], values: new Int32Array(0) } } };
  const panel = curves[0]!, here = scene(none, { score: "stands_out" });
  assert.equal(panel.layout(here, 1000).shown[0].name, "entropy L0H0");
  assert.ok(panel.heading(here).subtitle.includes("no head stands out yet"));
});

test("bands have the ends of nine tenths of the values and a chart for each layer and part", () => {
  const part = { rows: 1, values: spread!.arrays.part_0!.values };
  assert.deepEqual(at(part, 0, 0), [-4, -2, -1, 0, 1, 2, 8]);
  assert.deepEqual(scale_of(part, 0, 3).map((end) => end.toFixed(1)), ["-4.8", "4.8"]); // a step without numbers is left out
  const panel = bands[0]!, weights = panel.layout(scene(spread, { what: "weights" }), 1000);
  assert.equal(weights.tiles.length, 1);
  assert.ok(panel.says(scene(spread, { what: "weights" })).includes("wte at step 10: median 0.5, half of them −2 to 2"));
  assert.ok(panel.says(scene(spread, { what: "gradients" })).includes("L0 mlp.c_fc at step 10: median 5e−5"));
  assert.deepEqual(panel.hit(weights, weights.tiles[0].x + 2, weights.tiles[0].y + 2, scene(spread, {}))?.spot, 0);
});

test("ends of a scale are terse", () => {
  assert.deepEqual([terse(0.123), terse(-2e-5), terse(NaN), terse(0), terse(12345)], ["0.12", "\u22122e\u22125", "×", "0", "1.2e4"]);
  assert.deepEqual([terse(0.123456, 4), terse(-2.3456e-5, 4), terse(5e-5, 4)], ["0.1235", "\u22122.346e\u22125", "5e\u22125"]);
});
