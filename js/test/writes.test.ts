// Writes, lines, query and key, and the table of a score: their sums, filters and groups, without a browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { around, make_diverging, points } from "../colour.ts";
import { filter_of, gates_of, heads_of, lines_of, marginal, thinned, token_shares, type Found, type Line } from "../line_weights.ts";
import { Pattern } from "../pattern.ts";
import type { View } from "../payload.ts";
import type { Scene } from "../scene.ts";
import { table_of } from "../views/decomposition.ts";
import { sentences, walk_lines } from "../views/lines.ts";
import { panels as querykeys, scores_of } from "../views/querykey.ts";
import { choice_of, controls, listed, panels, split, top_of } from "../views/writes.ts";

const base = { title: "", subtitle: "", units: {}, range: {}, checks: [] };
const floats = (shape: number[], values: number[]) => ({ shape, axes: [], values: new Float32Array(values) });
const ints = (shape: number[], values: number[]) => ({ shape, axes: [], values: new Int32Array(values) });

const writes: View = { ...base, kind: "writes", labels: { row: ["embed", "L0 attn_out", "L0H0", "L0H1"], word: ["a", "b", "c"] }, arrays: {
  parent: ints([4], [-1, -1, 1, 1]), head: ints([4, 2], [-1, -1, -1, -1, 0, 0, 0, 1]), choices: ints([2], [2, 0]), truth: ints([1], [1]),
  adds: floats([2, 4], [1, 2, 3, -1, 0.5, 0.5, 0.25, 0.25]), adds_to_mean: floats([4], [0.5, 0.5, 0.5, 0]), logits: floats([2], [3, 1]), mean_logit: floats([1], [1]),
  promoted: ints([4, 2], [0, 1, 0, 1, 0, 1, 0, 1]), promoted_by: floats([4, 2], [2, -1, 1, 1, 1, 1, 1, 1]), suppressed: ints([4, 2], [1, 0, 1, 0, 1, 0, 1, 0]), suppressed_by: floats([4, 2], [-1, 2, -1, -1, -1, -1, -1, -1]) } };

test("the logit of a choice is split, or its lead over another or over the mean", () => {
  assert.deepEqual([choice_of(writes, "truth"), choice_of(writes, "0"), choice_of(writes, "4")], [1, 0, null]);
  assert.deepEqual(split(writes, { target: "truth" }), { adds: [0.5, 0.5, 0.25, 0.25], total: 1, target: "‘a’", against: "" });
  assert.deepEqual(split(writes, { target: "0", against: "truth" }), { adds: [0.5, 1.5, 2.75, -1.25], total: 2, target: "‘c’", against: "‘a’" });
  assert.deepEqual(split(writes, { target: "0", against: "mean" }).adds, [0.5, 1.5, 2.5, -1]);
  const at_end = { ...writes, arrays: { ...writes.arrays, truth: ints([1], [-1]) } };
  assert.equal(split(at_end, { target: "truth" }).target, "‘c’"); // no truth at the end of a text: the likeliest
});

test("where nothing follows, the menu and the heading call the target the model's own answer", () => {
  const last: View = { ...writes, arrays: { ...writes.arrays, truth: ints([1], [-1]) } }, at = (detail: View) => ({ view: detail, detail, detail_words: "", options: { target: "truth" }, look: { query: 7 } }) as unknown as Scene;
  const menu = (detail: View) => controls(at(detail)).slice(0, 2).map((one) => (one.kind === "choice" ? one.choices.find(([value]) => value === "truth")![1] : ""));
  assert.deepEqual(menu(writes), ["true next token", "true next token"]);
  assert.deepEqual(menu(last), ["model's own answer (nothing follows)", "true next token (none here)"]);
  assert.equal(panels[0]!.heading(at(writes)).subtitle, "to the logit of ‘a’ at 7");
  assert.equal(panels[0]!.heading(at(last)).subtitle, "to the logit of ‘c’, the model's own answer, at 7");
});

test("the row that moves the logit most is not said to be a share of the whole", () => {
  const here = { view: writes, detail: writes, detail_words: "", options: { target: "0", against: "truth" }, look: { query: 7 } } as unknown as Scene;
  assert.match(panels[0]!.says!(here), /L0 attn_out moves it most: \+1\.50, \+2\.75 of it L0H0; all together 2\.00\.$/);
});

test("rows are sublayers or their parts; of many the ten largest and the others", () => {
  assert.deepEqual(listed(writes, split(writes, {}).adds, {}), { rows: [0, 1], others: [] });
  assert.deepEqual(listed(writes, split(writes, {}).adds, { by: "parts" }), { rows: [0, 2, 3], others: [] });
  const many = { ...writes, arrays: { ...writes.arrays, parent: ints([20], Array(20).fill(-1)) } }, adds = Array.from({ length: 20 }, (_, i) => (i % 2 ? -i : i));
  const { rows, others } = listed(many, adds, {});
  assert.deepEqual(rows, [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
  assert.equal([...rows, ...others].reduce((sum, row) => sum + adds[row]!, 0), adds.reduce((a, b) => a + b, 0));
  assert.equal(listed(many, adds, { all: true }).rows.length, 20);
});

test("what is raised is above the mean, what is lowered below it", () => {
  assert.deepEqual(top_of(writes, "promoted", 0), [["a", 2]]);
  assert.deepEqual(top_of(writes, "suppressed", 0), [["b", -1]]);
});

const pattern = new Pattern({ ...base, kind: "attention", labels: { token: ["a", "b", "c"] }, arrays: { pattern: floats([1, 2, 6], [1, 0.25, 0.75, 0.5, 0.001, 0.499, 1, 1, 0, NaN, 0.5, 0.5]) } });
const scene = { pattern, tokens: ["a", "b", "c"], hover: {}, spot: undefined, look: { step: 0, layer: 0, head: 0, query: 2, key: 0 }, options: { heads: "one", pinned: [], pin: null } } as unknown as Scene;
const whole = { query: 0, key: 0, n: 3 };

test("lines are the weights that pass the filter", () => {
  assert.deepEqual(lines_of(scene, [0, 0], null, whole).lines.map(([query, key]) => [query, key]), [[0, 0], [1, 0], [1, 1], [2, 0], [2, 2]]);
  assert.deepEqual(lines_of(scene, [0, 0], { side: "query", at: 1 }, whole).lines, [[1, 0, 0.25], [1, 1, 0.75]]);
  assert.deepEqual(lines_of(scene, [0, 0], { side: "key", at: 0 }, whole).lines, [[0, 0, 1], [1, 0, 0.25], [2, 0, 0.5]]);
  assert.equal(lines_of(scene, [0, 1], null, whole).broken, 1);
  assert.deepEqual(lines_of(scene, [0, 0], null, { query: 2, key: 1, n: 1 }).lines, []); // 0.001 is too faint for a whole window
  assert.deepEqual(lines_of(scene, [0, 0], { side: "key", at: 2 }, { query: 2, key: 0, n: 1 }).outside.map(([query, key]) => [query, key]), [[2, 2]]);
  assert.equal(marginal(scene, [0, 0], null, whole), 0.5);
  assert.ok(Math.abs(marginal(scene, [0, 0], { side: "key", at: 0 }, whole) - 1.75 / 3) < 1e-6);
});

test("no weight that the caption counts in is lost: what goes to keys outside the window is found there", () => {
  const long = new Pattern({ ...base, kind: "attention", labels: { token: Array(40).fill("t") }, arrays: { pattern: floats([1, 1, 820], Array.from({ length: 40 }, (_, query) => Array.from({ length: query + 1 }, (_, key) => (key === 0 ? 0.6 : key === 5 ? 0.3 : 0.1 / query))).flat()) } });
  const window = { query: 30, key: 20, n: 8 }, found = lines_of({ pattern: long }, [0, 0], null, window);
  for (let query = 30; query < 38; query++)
    for (let key = 0; key <= query; key++) {
      const p = long.weight(0, 0, query, key), drawn = [...found.lines, ...found.outside].filter(([q, k]) => q === query && k === key);
      assert.equal(drawn.length, p >= 0.02 ? 1 : 0, `${query} ${key}`);
    }
  assert.deepEqual(found.queries, [30, 31, 32, 33, 34, 35, 36, 37]);
  assert.deepEqual(gates_of([found], window), { before: [0, 5], after: [] });
  const at_31 = lines_of({ pattern: long }, [0, 0], { side: "query", at: 31 }, window); // of one token from 0.002 on
  assert.deepEqual([at_31.lines.length, at_31.outside.length], [8, 24]);
});

test("of too many lines the stronger ones are drawn, and it is known how many are not", () => {
  const many: Found = { lines: Array.from({ length: 70 }, (_, i): Line => [i, 0, i < 10 ? 0.5 : 0.05]), outside: [[0, 90, 0.05], [1, 91, 0.3]], queries: [], absent: 0, broken: 0 };
  const { all, from, left_out } = thinned([many], null, 99);
  assert.deepEqual([all[0]!.lines.length, all[0]!.outside, from, left_out], [10, [[1, 91, 0.3]], 0.08, 61]);
  const of_key = thinned([many], { side: "key", at: 0 }, 99);
  assert.deepEqual([of_key.from, of_key.left_out], [0.002, 0]);
  assert.equal(thinned([{ ...many, lines: many.lines.slice(0, 50) }], null, 99).from, 0.02);
});

test("the selected query keeps its lines where others lose theirs, and the caption says so", () => {
  const many: Found = { lines: Array.from({ length: 70 }, (_, i): Line => [i, 0, 0.05]), outside: [[69, 90, 0.05], [68, 91, 0.05]], queries: [], absent: 0, broken: 0 };
  const { all, left_out } = thinned([many], null, 69);
  assert.deepEqual([all[0]!.lines, all[0]!.outside, left_out], [[[69, 0, 0.05]], [[69, 90, 0.05]], 70]);
  const said = (own: boolean) => sentences({ ...scene, look: { ...scene.look, query: 69 }, detail_words: "" }, { filter: null, heads: 1, from: 0.08, left_out, own, outside: 0, absent: 0, broken: 0 })[1]!;
  assert.match(said(true), /^Lines: weights of the shown queries from 0\.08 on \(of query 69 from 0\.02 on\), by width\. 70 /);
  assert.match(said(false), /from 0\.08 on, by width/);
});

test("a head whose rows are not here is counted, not drawn as zero", () => {
  const tiles = new Pattern({ ...base, kind: "attention", labels: { token: ["a", "b", "c"] }, arrays: { tiles: { shape: [1, 2, 3, 3], axes: [], values: new Uint8Array(18) } } });
  assert.deepEqual(lines_of({ pattern: tiles }, [0, 0], null, whole), { lines: [], outside: [], queries: [], absent: 3, broken: 0 });
  assert.ok(Number.isNaN(marginal({ pattern: tiles, look: scene.look }, [0, 0], null, whole)));
});

test("the shares of tokens are means over the heads", () => {
  const one = (lines: Line[], queries: number[], outside: Line[] = []): Found => ({ lines, outside, queries, absent: 0, broken: 0 });
  const shares = token_shares([one([[2, 0, 0.5], [2, 1, 0.5]], [2]), one([[2, 0, 1]], [2])]);
  assert.deepEqual([shares.query.get(2), shares.key.get(0), shares.key.get(1)], [1, 0.75, 0.25]);
  const window = token_shares([one([[1, 1, 0.5], [2, 1, 0.25], [2, 2, 0.5]], [0, 1, 2], [[2, 0, 0.25]])]);
  assert.deepEqual([window.query.get(2), window.key.get(1), window.key.get(2)], [1, 0.375, 0.5]); // of a key the mean over the queries that can see it
  assert.ok(Math.abs(window.key.get(0)! - 0.25 / 3) < 1e-12);
});

test("the token under the mouse filters before the pinned one; heads are one, a layer's or the pinned", () => {
  const pinned = { ...scene, options: { ...scene.options, pin: { side: "key", at: 1 }, pinned: [[0, 1], [7, 0]] } };
  assert.equal(filter_of(scene), null);
  assert.deepEqual(filter_of(pinned), { side: "key", at: 1 });
  assert.deepEqual(filter_of({ ...pinned, hover: { query: 2 } }), { side: "query", at: 2 });
  assert.deepEqual(filter_of({ ...pinned, hover: { key: 0 } }), { side: "key", at: 0 });
  assert.deepEqual(heads_of(scene), [[0, 0]]);
  assert.deepEqual(heads_of({ ...scene, options: { heads: "layer" } }), [[0, 0], [0, 1]]);
  assert.deepEqual(heads_of({ ...pinned, options: { ...pinned.options, heads: "pinned" } }), [[0, 1]]); // a pinned head of a larger model is no head here
  assert.deepEqual(walk_lines("Enter", scene)!.options, { pin: { side: "query", at: 2 } });
  assert.deepEqual(walk_lines("p", scene)!.options, { pinned: [[0, 0]] });
  assert.deepEqual(walk_lines("ArrowRight", scene)!.selection, { layer: 0, head: 1 });
  assert.equal(walk_lines("x", scene), null);
});

test("scores are q · k / √d, weights their softmax", () => {
  const detail: View = { ...base, kind: "querykey", labels: {}, arrays: { q: floats([2, 4], [0, 0, 0, 0, 1, 2, 0, 0]), k: floats([2, 4], [2, 1, 9, 9, 0, 1, 9, 9]) } };
  const { scores, weights } = scores_of(detail, 1);
  assert.deepEqual([...scores], [2, 1]);
  assert.ok(Math.abs(weights[0]! - 1 / (1 + Math.exp(-1))) < 1e-12 && Math.abs(weights[0]! + weights[1]! - 1) < 1e-12);
});

test("the column of scores shows two digits of the largest, however small it is", () => {
  const words: string[] = [], own: any = { fillText: (text: string) => words.push(text), measureText: (text: string) => ({ width: 6 * text.length }) }, colours = { css: Array(256).fill("red") };
  const detail: View = { ...base, kind: "querykey", labels: {}, arrays: { q: floats([2, 1], [0, 1]), k: floats([2, 1], [-0.0021, 0.0004]) } };
  const here = { ...scene, view: detail, detail, detail_words: "", tokens: ["a", "b"], look: { ...scene.look, query: 1 }, corner: { query: 0, key: 0 }, place: { window: 2 }, theme: { series: [], diverging: colours, sequential: colours }, measure: (text: string) => 6 * text.length } as unknown as Scene;
  const panel = querykeys[0]!;
  panel.draw(new Proxy(own, { get: (target, key) => target[key] ?? (() => undefined) }), panel.layout(here, 1000), here);
  assert.ok(words.includes("−0.0021") && words.includes("0.0004"), words.join(" "));
  const low = { ...detail, arrays: { q: floats([2, 1], [0, 0.00012]), k: floats([2, 1], [-0.0021, 0.0004]) } };
  assert.match(panel.says({ ...here, view: low, detail: low, options: { dimension: 0 }, look: { ...here.look, key: 0 } }), /sum −2\.5e−7 .* score −2\.5e−7 · softmax over 2 keys: 0\.5000 · dimension 0: 1\.2e−4 × −0\.0021 = −2\.5e−7\./);
});

test("a table keeps its sum when the small components stand together", () => {
  const names = Array.from({ length: 12 }, (_, i) => `c${i}`), terms = Array.from({ length: 144 }, (_, i) => Math.sin(i) * (Math.floor(i / 12) + 1));
  const detail: View = { ...base, kind: "decomposition", labels: { query_component: names, key_component: names }, arrays: { terms: floats([12, 12], terms), score: floats([1], [0]) } };
  const all = table_of(detail, true), grouped = table_of(detail, false), total = terms.reduce((a, b) => a + b, 0);
  assert.deepEqual([all.rows.length, grouped.rows.length, grouped.rows.at(-1)!.name], [12, 9, "4 others"]);
  for (const table of [all, grouped]) {
    assert.ok(Math.abs(table.sum - total) < 1e-5);
    assert.ok(Math.abs(table.column_sums.reduce((a, b) => a + b, 0) - total) < 1e-5);
  }
  assert.ok(grouped.rows.slice(0, -1).every(({ name }) => Number(name.slice(1)) >= 4)); // the largest rows are kept, in order
});

test("zero has the middle of the scale around zero, the ends its ends", () => {
  assert.deepEqual([around(0, 3), around(3, 3), around(-30, 3), around(1.5, 3)], [128, 255, 1, 192]);
  const { css } = make_diverging(points.light);
  assert.equal(css[255], "rgb(166 86 13)");
  assert.equal(css[0], "rgb(2 90 156)");
});
