// What stands on the grid and on the large head, drawn on a canvas that only keeps what it was told.
import assert from "node:assert/strict";
import { test } from "node:test";
import { arrange } from "../arrange.ts";
import { make_diverging, make_scale, points } from "../colour.ts";
import type { View } from "../payload.ts";
import { look_at, pattern_of, type Scene } from "../scene.ts";
import { panels as grid } from "../views/attention.ts";
import { panels as head } from "../views/head.ts";
import { panels as lines } from "../views/lines.ts";

const nothing = { step: null, layer: null, head: null, query: null, key: null };
const theme = { sans: "s", mono: "m", sequential: make_scale(points.light.sequential), diverging: make_diverging(points.light), series: ["a", "b", "c", "d"] } as unknown as Scene["theme"];
const measure = (text: string): number => 7 * text.length;

interface Told { words: { text: string; x: number; y: number }[]; boxes: { x: number; y: number; w: number; h: number; colour: string }[] }

/** A canvas that keeps words and filled rectangles. */
function canvas(): { ctx: CanvasRenderingContext2D; told: Told } {
  const told: Told = { words: [], boxes: [] }, own: any = {
    fillText: (text: string, x: number, y: number) => told.words.push({ text, x, y }), measureText: (text: string) => ({ width: measure(text) }),
    fillRect: (x: number, y: number, w: number, h: number) => told.boxes.push({ x, y, w, h, colour: own.fillStyle }), getTransform: () => ({ a: 1 }) };
  return { told, ctx: new Proxy(own, { get: (of, name) => of[name] ?? (() => undefined), set: (of, name, value) => ((of[name] = value), true) }) };
}

/** One head of `n` tokens; `other` gives its weights a second time. */
function scene_of(n: number, weight: (query: number, key: number) => number, width: number, more: { other?: typeof weight; options?: object; views?: View[] } = {}): Scene {
  const cells = (of: typeof weight) => ({ shape: [1, 1, (n * (n + 1)) / 2], axes: [],
    values: new Float32Array(Array.from({ length: n }, (_, query) => Array.from({ length: query + 1 }, (_, key) => of(query, key))).flat()) });
  const arrays: View["arrays"] = { pattern: cells(weight), ...(more.other ? { other_pattern: cells(more.other) } : {}) }, token = Array.from({ length: n }, (_, i) => `t${i}`);
  const view: View = { kind: "attention", title: "Heads", subtitle: "hover looks", labels: { token, compared: ["red", "blue"] }, units: {}, range: {}, checks: [], arrays };
  const views = [view, ...(more.views ?? [])], place = arrange(width, 1, 1, n), options = { compare: "this", ...more.options };
  return { board: { steps: [] } as never, views, view, pattern: pattern_of(views), tokens: token, selection: nothing, hover: {}, look: look_at(nothing, {}, {}, views, 0), corner: { query: n - place.window, key: n - place.window },
           place, theme, measure, detail: null, detail_words: "", options, spot: undefined, options_of: () => options, live: false };
}

const even = (query: number): number => 1 / (query + 1);

test("every key of a window of 15 px cells has its name", () => {
  const scene = scene_of(500, even, 1000), { x, n, bars } = head[0]!.layout(scene, 800), square = head[0]!.layout(scene, x + bars + 15 * n), { ctx, told } = canvas();
  assert.equal(square.cell, 15);
  assert.ok(square.tall > 0 && n > 15, "names that lean");
  head[0]!.mark(ctx, square, scene);
  assert.ok(told.words.some(({ text }) => text === "sum, all queries"), "not those of the window only");
  for (let at = 500 - n; at < 500; at++) assert.equal(told.words.filter(({ text }) => text === `t${at}`).length, 2, `t${at}`); // of the query and of the key
});

test("in the sums of a change more is up, and each number has its sign", () => {
  const scene = scene_of(4, even, 1000, { other: (query, key) => (query ? (key === 0 ? even(query) - 0.1 : even(query) + 0.1 / query) : 1), options: { compare: "difference" } });
  const square = head[0]!.layout(scene, 600), base = canvas(), over = canvas();
  head[0]!.draw(base.ctx, square, scene);
  const zero = square.y + square.n * square.cell + 6 + 11, bars = base.told.boxes.filter(({ y, h }) => y >= square.y + square.n * square.cell && (y === zero || y + h === zero));
  const less = bars.filter(({ colour }) => colour === theme.diverging.css[40]), more = bars.filter(({ colour }) => colour === theme.diverging.css[216]);
  assert.ok(less.length === 1 && less[0]!.y === zero, "less hangs below the line"); // the first key
  assert.ok(more.length === 3 && more.every(({ y, h }) => y + h === zero && y < zero), "more stands on it");
  head[0]!.mark(over.ctx, square, scene);
  const words = [...base.told.words, ...over.told.words].map(({ text }) => text);
  assert.ok(words.includes("row sum ±0.000") && words.includes("−0.30") === (scene.look.key === 0), String(words));
  assert.ok(words.includes("−0.10") && words.includes("+0.10"), "the ends of the scale are the largest change");
  assert.match(head[0]!.heading(scene).subtitle, /^difference: blue − red · /);
  assert.match(grid[0]!.heading(scene).subtitle, /^difference: blue − red; blue less, orange more, to ±0\.10$/);
});

test("the grid says what the number of a head is", () => {
  const foot = (scene: Scene): string => grid[0]!.layout(scene, 400).foot.join(" ");
  const raw = (values: number[], shape: number[], type: any = Float32Array) => ({ dtype: type === Int32Array ? "int32" : "float32", shape, axes: shape.map(() => ""), data: new Uint8Array(new type(values).buffer) });
  const detail = { kind: "head_scores", title: "", subtitle: "", labels: { score: ["induction"], words: ["induction"] }, units: {}, range: {}, checks: [],
    arrays: { value: raw([0.9], [1, 1, 1]), null_low: raw([0], [1, 1, 1]), null_high: raw([0.2], [1, 1, 1]), label: raw([0], [1, 1], Int32Array) } };
  const scores = { kind: "head_scores", title: "", subtitle: "", labels: {}, units: {}, range: {}, checks: [], arrays: {}, detail_axes: [], details: { "": detail } } as unknown as View;
  assert.equal(foot(scene_of(8, even, 1400)), "Below a head: the largest weight of the chosen query.");
  assert.match(foot(scene_of(8, even, 1400, { views: [scores] })), /^Below a head: the score that stands out, and its value; tick: .* mixed: no score of the head stands out\.$/);
  assert.match(foot(scene_of(8, even, 1400, { views: [scores], options: { score: "induction" } })), /^Below a head: its induction score; tick: /);
  const dense = scene_of(8, even, 1400, { views: [scores] }), small = { ...dense, measure: (text: string) => 40 * text.length };
  assert.match(grid[0]!.layout(small, 4000).foot.join(" "), /^No room below the tiles/);
  assert.deepEqual(grid[0]!.layout({ ...small, views: [small.view] }, 4000).foot, []);
  assert.match(foot(scene_of(8, even, 1400, { other: even, options: { score: "most", compare: "difference" } })), /largest change/);
});

/** One score of one head; `label` is -1 where it does not stand out. */
function scores_view(label: number, more: Partial<View> = {}): View {
  const raw = (values: number[], shape: number[], type: any = Float32Array) => ({ dtype: type === Int32Array ? "int32" : "float32", shape, axes: shape.map(() => ""), data: new Uint8Array(new type(values).buffer) });
  const detail = { kind: "head_scores", title: "", subtitle: "", labels: { score: ["induction"], words: ["induction"] }, units: {}, range: {}, checks: [],
    arrays: { value: raw([0.1], [1, 1, 1]), null_low: raw([0], [1, 1, 1]), null_high: raw([0.2], [1, 1, 1]), label: raw([label], [1, 1], Int32Array) } };
  return { kind: "head_scores", title: "", subtitle: "", labels: {}, units: {}, range: {}, checks: [], arrays: {}, detail_axes: [], details: { "": detail }, ...more } as unknown as View;
}

test("where no head stands out the grid says what that means and names the heads, none of them mixed", () => {
  const foot = (scene: Scene): string => grid[0]!.layout(scene, 400).foot.join(" ");
  const scene = scene_of(8, even, 1400, { views: [scores_view(-1)] }), { ctx, told } = canvas();
  assert.match(foot(scene), /^No head stands out: none looks at the token before, .* With 8 different tokens, chance alone .* has no score here\. Below a head: the largest weight of the chosen query\.$/);
  assert.doesNotMatch(foot(scene_of(9, even, 1400, { views: [scores_view(-1)] })), /different tokens/);
  grid[0]!.mark(ctx, grid[0]!.layout(scene, 400), scene);
  assert.deepEqual(told.words.map(({ text }) => text).filter((text) => /mixed|L0H0|^\.\d\d$/.test(text)), ["L0H0", ".13"]);
  assert.deepEqual(grid[0]!.controls!(scene).map(({ disabled }) => disabled), [undefined, ...Array(2).fill("no head stands out")]);
});

test("the answer to s says by what the heads are sorted, or why they are not", () => {
  const press = (views: View[], options: object = {}) => grid[0]!.press!("s", scene_of(8, even, 1400, { views, options }))!;
  assert.deepEqual(press([scores_view(0)], { score: "induction" }), { note: "Sorted by the induction score, highest first.", options: { sort: true } });
  assert.match(press([scores_view(0)]).note!, /^Sorted by the score that stands out, highest first; heads without one are last\.$/);
  for (const [views, options, why] of [[[], {}, /^Not sorted: this board has no scores of the heads on this text; gptviz\.explore/], [[scores_view(-1)], {}, /^Not sorted: no head stands out; choose/],
    [[scores_view(0)], { score: "most" }, /^Not sorted: the largest weight is that of one query/], [[scores_view(0, { detail_axes: undefined, subtitle: "none: a pattern holds a NaN" })], {}, /^Not sorted: there are no scores, a pattern holds a NaN\./]] as const) {
    assert.match(press([...views], options).note!, why);
    assert.equal(press([...views], options).options, undefined, "nothing is switched on that does nothing");
  }
  assert.deepEqual(press([scores_view(0)], { sort: true }), { note: "The heads stand by layer and head.", options: { sort: false } });
  const lasting = grid[0]!.layout(scene_of(8, even, 1400, { views: [scores_view(0)], options: { score: "induction", sort: true } }), 400).foot.join(" ");
  assert.match(lasting, /^Sorted by the induction score, highest first\. Below a head: its induction score; tick: /);
});

test("lines end at the window's edge where their keys are outside, with the key's name and place, and the axes of the bars are there", () => {
  const sink = (query: number, key: number): number => (key === 3 ? 0.7 : 0.3 / Math.max(1, query)), scene = scene_of(100, sink, 1000, { options: { heads: "one", pinned: [], pin: null } });
  const layout = lines[0]!.layout(scene, 760), { ctx, told } = canvas(), here = (text: string) => told.words.filter((one) => one.text === text);
  lines[0]!.mark(ctx, layout, scene);
  assert.ok(layout.before && !layout.after);
  const [name] = here("t3"), [place] = here("3");
  assert.ok(name && place && name.y === place.y && name.y < layout.top && name.x > layout.right, "a row of its own above the window");
  const foot = told.words.map(({ text }) => text).join(" ");
  assert.match(foot, new RegExp(`Lines: weights of the shown queries from 0\\.02 on, by width\\. ${layout.n} end outside the window`));
  assert.match(foot, /right, what a key gets through its lines, mean of the shown queries that can see it\./);
  assert.ok(here("1").length === 1 && here("0").length === 2 && here(".70").length === 1, "the ends of both scales");
  const one = canvas(), far = (query: number, key: number): number => ([5, 6, 7].includes(key) ? [0.4, 0.2, 0.1][key - 5]! : 0.3 / Math.max(1, query));
  const at_99 = scene_of(100, far, 1000, { options: { heads: "one", pinned: [], pin: { side: "query", at: 99 } } });
  lines[0]!.mark(one.ctx, layout, at_99); // keys 5 and 6 have rows of their own; 7 and the weak ones are together
  assert.ok(one.told.words.some(({ text }) => /^‘t7’ 7 \+ \d+$/.test(text)), one.told.words.map(({ text }) => text).join("|"));
  assert.ok(one.told.words.some(({ text }) => text === ".40"), "the end of the right bars");
  const hit = lines[0]!.hit(layout, name!.x + 5, name!.y - 4, scene);
  assert.deepEqual([hit!.at, hit!.options], [{ key: 3 }, { pin: { side: "key", at: 3 } }]);
});
