// Curves of heads and bands of numbers through training.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { decode_view, type RawBoard } from "../payload.ts";
import { step_words } from "../slider.ts";
import { round_steps } from "../steps.ts";
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

test("of one score all heads are there, the clearest in front: of entropy the lowest, for an even head knows nothing", () => {
  assert.deepEqual(curves_of(scores!, "entropy").shown.map(({ head, values }) => [head, values.at(-1)!.toFixed(1)]), [[1, "0.1"], [0, "0.9"]]);
  assert.deepEqual(curves_of(scores!, "induction").shown.map(({ head }) => head), [1, 0]);
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

test("without a head that stands out no curve is named as one", () => {
  const none = { ...scores!, arrays: { ...scores!.arrays, stands_out: { shape: [0, 3], axes: [], values: new Int32Array(0) } } };
  const panel = curves[0]!, here = scene(none, { score: "stands_out" }, { theme: { series: ["red"] } }), plot = panel.layout(here, 1000);
  assert.deepEqual([plot.shown.length, plot.quiet.length], [0, 2]);
  assert.ok(panel.heading(here).subtitle.includes("no head stands out yet"));
  const words = written(panel, here);
  assert.ok(words.includes("entropy, all heads") && words.includes("0.10 to 0.90"));
  assert.ok(!words.some((one) => /L0H/.test(one)), "a head by name is one that stands out");
  assert.equal(panel.says(here), "Step 10: no head stands out yet.");
  const unknown = { ...none, arrays: { ...none.arrays, null_0: { ...none.arrays.null_0!, values: new Float32Array(3).fill(NaN) } } };
  assert.ok(panel.heading(scene(unknown, { score: "stands_out" })).subtitle.includes("not compared with chance"));
});

test("the legend speaks of a hatch where one is drawn", () => {
  const says = (view: any, score: string) => curves[0]!.heading(scene(view, { score })).subtitle.includes("hatched");
  assert.deepEqual(["stands_out", "induction", "entropy"].map((score) => says(scores, score)), [true, true, false]);
  const none = { ...scores!, arrays: { ...scores!.arrays, stands_out: { shape: [0, 3], axes: [], values: new Int32Array(0) } } };
  assert.equal(says(none, "stands_out"), false);
});

test("the names of the charts are explained", () => {
  const words = written(bands[0]!, scene(spread, { what: "weights" }, { theme: { series: ["red"] } }));
  assert.ok(words.includes("wte: token embeddings"));
  assert.ok(bands[0]!.heading(scene(spread, { what: "weights" })).subtitle.startsWith("value of the weights ↑"));
});

test("charts side by side share the words of their axis, which touch no number of the next", () => {
  const one = spread!.arrays.part_0!, part = (spread!.content!.parts as any[])[0], parts = ["attn.c_attn", "mlp.c_fc"].map((name) => ({ ...part, name, kind: "weights" }));
  const view = { ...spread!, content: { ...spread!.content, parts }, arrays: { ...spread!.arrays, part_0: one, part_1: one } };
  const words = written(bands[0]!, scene(view, { what: "weights" }, { theme: { series: ["red"] } }));
  assert.deepEqual([words.filter((said) => said === "step →").length, words.filter((said) => said === "10").length], [1, 2]);
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

test("an axis of steps names both ends and round steps between, never a crowd", () => {
  assert.deepEqual(round_steps(0, 3000).sort((a, b) => a - b), [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 1500, 2000, 2500]);
  assert.deepEqual(round_steps(2000, 3000).sort((a, b) => a - b), [2100, 2200, 2300, 2400, 2500, 2600, 2700, 2800, 2900]);
  assert.deepEqual([round_steps(0, 1), round_steps(7, 7)], [[], []]);
  const line = (last: number, width: number, steps: number[], step = last) => {
    const array = (values: number[]) => ({ shape: [values.length], axes: ["point"], values: Float32Array.from(values) }), at: [number, string][] = [];
    const own: any = { fillText: (text: string, x: number, y: number) => { if (y > 220) at.push([x, text]); }, measureText: (text: string) => ({ width: 6 * text.length }) };
    const view = { kind: "training", labels: { series: ["train"] }, arrays: { steps_0: array([0, last]), values_0: array([2, 1]) } };
    const here = scene(view, {}, { board: { steps }, look: { step }, theme: { series: ["red"] } }), plot = loss[0]!.layout(here, width);
    loss[0]!.mark(new Proxy(own, { get: (target, key) => target[key] ?? (() => undefined) }), plot, here);
    const sorted = at.sort(([a], [b]) => a - b);
    sorted.slice(1).forEach(([x], i) => assert.ok(x - sorted[i]![0] >= 12));
    return sorted.map(([, text]) => text.replace("\u2009", ""));
  };
  assert.deepEqual(line(3000, 1000, [3000]), ["0", "10", "20", "50", "100", "200", "500", "1000", "2000", "3000"]); // one recorded step
  assert.deepEqual(line(3000, 300, []), ["0", "100", "500", "3000"]);
  assert.ok(line(3000, 1000, [0, 700, 3000], 700).includes("700")); // the chosen one, round or not
});

test("the header tells a run with one recorded step from a model without any", () => {
  const words = (name: string, steps: number[]) => step_words({ name, steps });
  assert.equal(words("watch", [0, 3000]), "step");
  assert.equal(words("watch", [3000]), "step 3\u2009000, the only one recorded");
  assert.equal(words("watch", []), "no step recorded yet");
  assert.equal(words("explore", []), "one step, no training record");
});
