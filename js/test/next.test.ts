// The lens, the next token and its tree, the text's colours: numbers and geometry without a browser.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { arrange } from "../arrange.ts";
import { detail_at } from "../details.ts";
import { decode_view, type NumberArray, type RawBoard, type View } from "../payload.ts";
import { rank_share, rank_ticks } from "../ranks.ts";
import { draw_after, draw_from } from "../sampling.ts";
import type { Scene } from "../scene.ts";
import { name_of, Tree, type Node } from "../tree.ts";
import { first_column, followed, panels as lens, sentence } from "../views/lens.ts";
import { bars_of, chosen, panels as next } from "../views/next.ts";
import { colourings, expected, panels as strip, summary } from "../views/tokens.ts";

const array = (shape: number[], values: number[], whole = false): NumberArray =>
  ({ shape, axes: shape.map(() => ""), values: whole ? new Int32Array(values) : new Float32Array(values) });
const view = (kind: string, arrays: Record<string, NumberArray>, labels: Record<string, string[]>, more: object = {}): View =>
  ({ kind, title: "", subtitle: "", arrays, labels, units: {}, range: {}, checks: [], ...more });

const tokens = ["a", "b", "c"];
const range = { top_probs: [0, 1], entropy: [0, 1.1], kl: [0, 6], true_rank: [1, 3], loss: [0, 6] };
const lens_view = view("lens", {
  top_words: array([2, 3, 1], [0, 1, 2, 1, 2, 0], true), top_probs: array([2, 3, 1], [0.5, 0.6, 0.7, 0.8, 0.9, 0.4]), entropy: array([2, 3], [1, 1, 1, 0.5, 0.5, NaN]),
  kl: array([2, 3], [7, 0, 0, 0, 0, 0]), true_prob: array([2, 3], [0.1, 0.2, NaN, 0.8, 0.9, NaN]), true_rank: array([2, 3], [3, 2, 0, 1, 1, 0], true),
  rank_of_top: array([2, 2, 3], [1, 1, 1, 3, 2, 1, 2, 3, 2, 1, 1, 1], true), first: array([1], [0], true),
}, { point: ["embed", "L0"], token: tokens, word: tokens }, { range });
const next_view = view("next", {
  ids: array([3], [0, 1, 2], true), word_ids: array([3], [10, 11, 12], true), top_words: array([3, 2], [1, 0, 2, 1, 0, 2], true), top_probs: array([3, 2], [0.7, 0.2, 0.6, 0.3, 0.5, 0.4]),
}, { token: tokens, word: tokens }, { range, content: { continues: true, n_vocab: 3 } });
const detail = view("next", { logits: array([3], [Math.log(0.5), Math.log(0.3), Math.log(0.2)]), groups: array([0], []), sizes: array([0], [], true), truth: array([1], [1], true), truth_logit: array([1], [Math.log(0.3)]) }, { word: ["b", "c", "a"] });

function scene_of(one: View, options = {}, more: Partial<Scene> = {}): Scene {
  const selection = { step: null, layer: null, head: null, query: null, key: null }, look = { step: 0, layer: 0, head: 0, query: 1, key: 0 };
  return { board: { steps: [] } as never, views: [one], view: one, pattern: null, tokens, selection, hover: {}, look, corner: { query: 0, key: 0 }, place: arrange(1400, 1, 1, 3),
           theme: { sans: "s", mono: "m", loss: "loss", sequential: "sequential", diverging: "diverging" } as never, measure: (text) => 7 * text.length,
           detail: null, detail_words: "asking", options, spot: undefined, options_of: () => ({}), live: true, ...more };
}

test("temperature, top-k and top-p are those of gptviz.generate", () => {
  const logits = [3, 1, 0, -2], p = (settings: object) => { const drawn = draw_from(logits, [], [], { temperature: 1, top_k: 0, top_p: 1, ...settings }); return logits.map((_, i) => drawn.p(i)); };
  const softmax = (values: number[]) => { const sum = values.reduce((a, b) => a + Math.exp(b), 0); return values.map((one) => Math.exp(one) / sum); };
  const near = (found: number[], wanted: number[]) => found.forEach((one, i) => assert.ok(Math.abs(one - wanted[i]!) < 1e-12, `${found} ${wanted}`));
  near(p({}), softmax(logits));
  near(p({ temperature: 0.5 }), softmax([6, 2, 0, -4]));
  near(p({ top_k: 2 }), [...softmax([3, 1]), 0, 0]);
  near(p({ temperature: 0 }), [1, 0, 0, 0]);
  near(p({ top_p: 0.9 }), [...softmax([3, 1]), 0, 0]); // 0.842 alone is less than 0.9, 0.956 of two is not
  near(p({ top_p: 0.5 }), [1, 0, 0, 0]);
  assert.equal(draw_from([1, 0, 0, -1], [], [], { temperature: 1, top_k: 2, top_p: 1 }).count, 3); // as likely as the second
});

test("groups give the sum of what they stand for, exactly at temperature 1", () => {
  const all = Array.from({ length: 400 }, (_, i) => -i / 40), groups: number[] = [], sizes: number[] = [];
  for (let i = 100; i < 400; i += 10) { groups.push(Math.log(all.slice(i, i + 10).reduce((sum, one) => sum + Math.exp(one), 0) / 10)); sizes.push(10); }
  for (const temperature of [0.5, 1, 1.5]) {
    const settings = { temperature, top_k: 0, top_p: 1 }, drawn = draw_from(all.slice(0, 100), groups, sizes, settings), wanted = draw_from(all, [], [], settings);
    assert.ok(Math.abs(drawn.p(0) / wanted.p(0) - 1) < (temperature === 1 ? 1e-9 : 2e-3), `${temperature}`);
    assert.equal(drawn.rough, temperature !== 1);
  }
  assert.equal(draw_from(all.slice(0, 100), groups, sizes, { temperature: 1, top_k: 0, top_p: 1 }).count, 400);
});

test("bars name what is excluded, and the truth keeps its own probability", () => {
  const { bars, truth, notes } = bars_of(scene_of(next_view, { temperature: 1, top_k: 1, top_p: 1 }, { detail }));
  assert.deepEqual(bars.map(({ word, out }) => [word, Boolean(out)]), [["b", false], ["c", true], ["a", true]]);
  assert.equal(truth, " · rank 2 · loss 1.20 · out");
  assert.deepEqual(notes, ["drawn from 1 of 3 tokens"]);
  assert.ok(Math.abs(draw_after(detail, { temperature: 1, top_k: 0, top_p: 1 }).truth! - 0.3) < 1e-6);
  const waiting = bars_of(scene_of(next_view, { temperature: 0.5, top_k: 0, top_p: 1 }));
  assert.deepEqual([waiting.bars.length, waiting.notes], [2, ["these settings need the logits: asking"]]);
});

test("a tree asks once for each branch and follows the likeliest", () => {
  const step = (...ids: number[]): Node[] => ids.map((id, i) => ({ id, word: `w${id}`, p: 0.5 / (i + 1) }));
  const first = new Tree(next_view, 2, 0, {});
  assert.deepEqual(first.steps().map(({ nodes, chosen }) => [nodes.map((one) => one.id), chosen]), [[[10, 12], null]]);
  const asked = first.choose(0, first.steps()[0]!.nodes[1]!);
  assert.deepEqual([asked.ids, asked.options.path, asked.steps], [[0, 1, 2, 12], [12], 4]);
  const options = { ...asked.options, [asked.at]: [step(7, 8), step(5, 6), step(3, 4)] }, grown = new Tree(next_view, 2, 0, options);
  assert.deepEqual(grown.steps().map(({ chosen, own }) => [chosen?.id ?? null, own]), [[12, true], [7, false], [5, false], [null, false]]);
  assert.equal(grown.choose(2, step(5)[0]!).ids, null); // on the path that is known
  assert.deepEqual(grown.choose(2, step(6)[0]!).ids, [0, 1, 2, 12, 7, 6]);
  assert.equal(new Tree(next_view, 1, 0, options).steps().length, 1); // another root
  assert.notEqual(name_of([1, 2], 0), name_of([2, 1], 0));
  assert.notEqual(name_of([1, 2], 0), name_of([1, 2], 5));
  const patch = chosen(scene_of(next_view), { step: 0, node: 0 })!;
  assert.equal(patch.act!.name, "continue");
  assert.equal(chosen(scene_of(next_view, {}, { live: false }), { step: 0, node: 0 }), null); // a page cannot continue
});

test("every node of a grown tree can be pointed at, and fits its panel", () => {
  const scene = scene_of(next_view, { root: name_of([0, 1, 2], 0), path: [10] }), panel = next[1]!;
  for (const width of [280, 464, 700]) {
    const rows = panel.layout(scene, width);
    assert.ok(rows.left + 5 * rows.column <= width + 1);
    assert.deepEqual(panel.hit(rows, rows.left + 4, rows.top + 4, scene)!.spot, { step: 0, node: 0 });
  }
});

test("a lens shows the columns that hold the chosen query, inside the window", () => {
  const long = (query: number | null) => ({ corner: { query: 100, key: 0 }, place: { window: 32 }, selection: { query }, tokens: { length: 500 } }) as never;
  assert.equal(first_column(long(100), 10), 100);
  assert.equal(first_column(long(120), 10), 112);
  assert.equal(first_column(long(113), 10), 112); // shown already: nothing moves
  assert.equal(first_column(long(131), 10), 122);
  assert.equal(first_column(long(300), 10), 122); // chosen outside the window: its end
  for (const width of [320, 620, 1352]) {
    const scene = scene_of(lens_view), grid = lens[0]!.layout(scene, width);
    assert.ok(grid.left + grid.n * grid.cell <= width);
    const spots = new Set<string>();
    for (let x = 0; x < width; x += 6) for (let y = 0; y < grid.height; y += 6) { const hit = lens[0]!.hit(grid, x, y, scene); if (hit?.spot) spots.add(JSON.stringify(hit.spot)); }
    assert.equal(spots.size, 2 * grid.n);
  }
});

test("a lens cell says its tokens, the truth and how sure; a pinned token is followed", () => {
  const scene = scene_of(lens_view, { colour: "top_probs", point: 0 }, { look: { step: 0, layer: 0, head: 0, query: 0, key: 0 } });
  assert.equal(sentence(scene), "At ‘a’ (0), before the first layer: ‘a’ 0.5000; the truth ‘b’ has rank 3, 0.1000. Entropy 1.0000, KL to the final 7.0000 nats.");
  assert.deepEqual(followed(scene), [{ word: "b", what: "truth after 0", ranks: [3, 1] }]);
  const pin = { point: 0, query: 0, text: tokens.join("\u0000") };
  assert.deepEqual(followed({ ...scene, options: { ...scene.options, pin } })[0], { word: "a", what: "pinned at 0", ranks: [1, 3] });
  assert.equal(followed({ ...scene, options: { ...scene.options, pin: { ...pin, text: "another" } } }).length, 1);
  assert.deepEqual(lens[0]!.press!("ArrowDown", scene)!.options, { point: 1 });
  assert.equal(lens[0]!.press!("ArrowRight", scene)!.selection!.query, 1);
});

test("the golden payload decodes to Python's numbers", () => {
  const golden = JSON.parse(readFileSync("../tests/golden/predictions.json", "utf8")) as RawBoard, [text, after, grid] = golden.views.map((one) => decode_view(one));
  const looked = (query: number) => ({ look: { step: 0, layer: 0, head: 0, query, key: 0 }, tokens: text!.labels.token! });
  assert.match(sentence(scene_of(grid!, { point: 1 }, looked(1))), /^At ‘·b’ \(1\), after L0: ‘<img src=x onerror="doc….* 0\.9000; the truth ‘<img.*’ has rank 1, 0\.4500\. Entropy 0\.1000/);
  assert.match(sentence(scene_of(grid!, { point: 0 }, looked(2))), /NaN; nothing follows\. Entropy NaN/);
  const detail = detail_at(after!, { query: 1 })!;
  assert.deepEqual(detail.labels.word!.slice(1), ["a", "·b", "x"]);
  assert.equal(draw_after(detail, { temperature: 1, top_k: 0, top_p: 1 }).truth!.toFixed(4), "0.6000");
  assert.equal(bars_of(scene_of(after!, { temperature: 1, top_k: 0, top_p: 1 }, { ...looked(1), detail })).truth, " · rank 1 · loss 0.51");
  assert.deepEqual([text!.labels.value, colourings(scene_of(text!)).value_0!.ticks], [["tilt"], ["−2.00", "0.00", "2.00"]]);
});

test("ranks run from 1 to the whole vocabulary", () => {
  assert.deepEqual([rank_share(1, 100), rank_share(100, 100), rank_share(10, 100)], [0, 1, 0.5]);
  assert.deepEqual(rank_ticks(50257), [1, 10, 100, 1000, 10000, 50257]);
  assert.deepEqual(rank_ticks(3), [1, 3]);
});

test("the text is coloured by what the reader chooses, with its own range", () => {
  const text = view("tokens", { loss: array([3], [NaN, 0, 7]), rank: array([3], [0, 1, 100], true), entropy: array([3], [NaN, 1, 3]), value_0: array([3], [-1, 0, 2]), value_1: array([3], [5, 6, 7]),
                                top_words: array([3, 2], [1, 0, 2, 1, 0, 2], true), top_probs: array([3, 2], [0.7, 0.2, 0.6, 0.3, 0.5, 0.4]) },
                    { token: tokens, word: tokens, value: ["tilt", "count"] }, { range: { ...range, value_0: [-2, 2], value_1: [5, 7] } });
  const scene = scene_of(text, { colour: "rank" }), all = colourings(scene);
  assert.deepEqual(Object.keys(all), ["loss", "p", "rank", "entropy", "value_0", "value_1"]);
  assert.deepEqual([all.p!.values[1], Number.isNaN(all.rank!.values[0]!), all.rank!.share(10).toFixed(3)], [1, true, "0.333"]);
  assert.deepEqual([all.value_0!.scale, all.value_0!.share(0), all.value_0!.ticks], ["diverging", 0.5, ["−2.00", "0.00", "2.00"]]);
  assert.deepEqual([all.value_1!.scale, all.value_1!.share(7)], ["sequential", 1]);
  assert.equal(expected(scene), "expected here: ‘b’ 0.700, ‘a’ 0.200");
  assert.equal(expected(scene, 24, 1), "expected here: ‘b’ 0.700"); // in a narrow strip
  assert.match(summary({ ...scene, tokens: ["a", "x".repeat(10_000)] }, 6), /^‘xxxxx…’ · loss 0\.00 · p 1\.000 · rank 1$/);
  const given = { ...scene, view: { ...text, content: { given: 2 } } };
  assert.equal(summary(given), "‘b’ · given: never trained to be guessed · loss 0.00");
  assert.match(summary({ ...given, look: { ...given.look, query: 2 } }), /^‘c’ · loss 7\.00 · p 0\.001/);
  assert.equal(strip[0]!.says({ ...scene, options: { colour: "value_0" } }), "Position 1: ‘b’ · loss 0.00 · p 1.000 · rank 1; tilt 0.0000; expected here: ‘b’ 0.700, ‘a’ 0.200.");
});
