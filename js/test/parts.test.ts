// What is computed in the browser for heads, edits, search and composition.
import assert from "node:assert/strict";
import { test } from "node:test";
import { beats_null, score_of } from "../head_scores.ts";
import type { View } from "../payload.ts";
import { pattern_of } from "../scene.ts";
import { compared_words, shown_pattern, whose } from "../shown.ts";
import { at, luminance, parse, points } from "../colour.ts";
import { in_table, is_zero, precise, signed, in_quotes, isolated, quoted } from "../text.ts";
import { scales_words, sentence as cell_sentence, singular_words } from "../views/circuits.ts";
import { count_words, found as found_pairs, panels as compositions } from "../views/composition.ts";
import { both, mute } from "../views/edits.ts";
import { apart, bar_of, found as points_found, project } from "../views/embeddings.ts";
import { mask_note, sentence } from "../views/head.ts";
import { counted, end_of, x_of } from "../views/head_scores.ts";
import { opacity } from "../views/lines.ts";
import { panels as reads } from "../views/reads.ts";
import { found, matches } from "../views/ruler.ts";

const array = (shape: number[], values: ArrayLike<number>, type: any = Float32Array) => ({ shape, axes: shape.map(() => ""), values: new type(values) });
const view = (kind: string, arrays: View["arrays"], more: Partial<View> = {}): View =>
  ({ kind, title: "", subtitle: "", units: {}, range: {}, checks: [], labels: {}, arrays, ...more });

// One head, three tokens: rows [1], [.8 .2], [.5 .1 .4]; the other [1], [.6 .4], [0 .1 .9]
const two = () => view("attention", { pattern: array([1, 1, 6], [1, 0.8, 0.2, 0.5, 0.1, 0.4]), other_pattern: array([1, 1, 6], [1, 0.6, 0.4, 0, 0.1, 0.9]) },
                       { labels: { token: ["a", "b", "c"] } });
const seen = (one: View, options: object) => shown_pattern({ views: [one], pattern: pattern_of([one]), options_of: () => options } as any);

test("without the first token each row is shared out again", () => {
  const pattern = seen(two(), { sink: false });
  assert.equal(pattern.weight(0, 0, 2, 1).toFixed(4), "0.2000");
  assert.equal(pattern.weight(0, 0, 2, 2).toFixed(4), "0.8000");
  assert.equal(pattern.weight(0, 0, 2, 0), 0);
  assert.ok(pattern.removed(0, 0, 2, 0) && pattern.removed(0, 0, 0, 0) && !pattern.removed(0, 0, 2, 1));
  assert.equal(pattern.strongest(0, 0, 2), 2);
  const all_on_first = view("attention", { pattern: array([1, 1, 3], [1, 0.995, 0.005]) }, { labels: { token: ["a", "b"] } });
  assert.ok(seen(all_on_first, { sink: false }).removed(0, 0, 1, 1)); // half a percent is left: rounding, magnified
});

test("the difference is the other minus this one, on bytes around 128 whose ends are the largest change", () => {
  const pattern = seen(two(), { compare: "difference" });
  assert.equal(pattern.weight(0, 0, 2, 0).toFixed(4), "-0.5000");
  assert.deepEqual([pattern.most, pattern.byte(0, 0, 2, 0), pattern.byte(0, 0, 2, 2)].map((one) => Number(one.toFixed(6))), [0.5, 1, 255]);
  assert.equal(pattern.byte(0, 0, 1, 0), Math.round(128 - 127 * Math.sqrt(0.2 / 0.5)));
  assert.equal(pattern.byte(0, 0, 0, 0), 128);
  assert.deepEqual([...pattern.tile(0, 0, 1)], [pattern.byte(0, 0, 2, 0)]); // of -.5 and +.5 the first that is farthest from 0
  assert.equal(seen(two(), { compare: "other" }).weight(0, 0, 2, 2).toFixed(1), "0.9");
  const told = seen({ ...two(), range: { change: [-2, 2] } }, { compare: "difference" }); // what Python says, which also knows the heads that are not here
  assert.deepEqual([told.most, told.byte(0, 0, 2, 0)], [2, Math.round(128 - 127 * 0.5)]);
  const same = { ...two(), arrays: { pattern: two().arrays.pattern!, other_pattern: two().arrays.pattern! } };
  assert.deepEqual([seen(same, { compare: "difference" }).most, seen(same, { compare: "difference" }).byte(0, 0, 1, 0)], [1, 128]);
});

test("who is compared with whom is said, and whose numbers a panel shows that knows only one", () => {
  const named = { ...two(), labels: { token: ["a", "b", "c"], compared: ["red", "blue"] } }, steps = { ...named, content: { since: 20 } };
  assert.equal(compared_words([named]), "comparing red and blue · difference: blue − red");
  assert.equal(compared_words([steps]), "comparing red and blue · difference: red − blue"); // the shown step minus the one before
  assert.deepEqual([whose([named], "reads"), whose([named], "head"), whose([named], "compare")], ["of red", "", ""]);
  const alone = view("attention", { pattern: two().arrays.pattern! }, { labels: { token: ["a", "b", "c"] } });
  assert.deepEqual([compared_words([alone]), whose([alone], "reads")], ["", ""]);
});

test("a change has its sign, and none is clear where its digits are zeros", () => {
  assert.deepEqual([0.151, -0.151, 0.001, -0.001, 0].map((one) => signed(one, Math.abs(one).toFixed(2))), ["+0.15", "−0.15", "±0.00", "±0.00", "±0.00"]);
  assert.deepEqual([signed(-0.2, ".20"), signed(NaN, "NaN"), signed(-Infinity, "∞")], ["−.20", "NaN", "−∞"]);
});

test("a change too small for its digits is said to stay", () => {
  const one = two(), here = { views: [one], view: one, pattern: pattern_of([one]), options_of: () => ({ compare: "difference" }), tokens: ["a", "b", "c"], detail_words: "" };
  const said = (query: number, key: number) => sentence({ ...here, look: { step: 0, layer: 0, head: 0, query, key } } as any);
  assert.equal(said(1, 1), "At ‘b’ this head's attention on ‘b’ goes from 20 % to 40 %: itself.");
  assert.equal(said(2, 1), "At ‘c’ this head's attention on ‘b’ stays at 10 %: the token before.");
});

test("what a row reads has more decimals where every weight is small", () => {
  const says = (one: View, n: number) => reads[0]!.says({ view: one, pattern: pattern_of([one]), tokens: ["a", "b", "c"], look: { step: 0, layer: 0, head: 0, query: n, key: 0 } } as any);
  assert.equal(says(two(), 1), "L0H0 reads from position 1: ‘a’ 0.800, ‘b’ 0.200.");
  const small = view("attention", { pattern: array([1, 1, 3], [1, 0.0004, 0.0002]) }, { labels: { token: ["a", "b"] } });
  assert.equal(says(small, 1), "L0H0 reads from position 1: ‘a’ 0.0004, ‘b’ 0.0002.");
});

test("a search finds places across tokens, with spaces as drawn or as typed", () => {
  const tokens = ["When", "·Ada", "·op", "ened", "·the", "·Ada"];
  assert.deepEqual(found({ tokens, options: { find: "ada" } }), [1, 5]);
  assert.deepEqual(found({ tokens, options: { find: "a open" } }), [1]);
  assert.deepEqual(found({ tokens, options: { find: "·opened" } }), [2]);
  assert.deepEqual(found({ tokens, options: { find: " " } }), []);
  assert.deepEqual(found({ tokens, options: {} }), []);
});

test("both passes' likeliest tokens stand in one list", () => {
  const one = view("edits", { top_words: array([1, 2], [0, 1], Int32Array), top_probs: array([1, 2], [0.6, 0.3]),
                              other_top_words: array([1, 2], [2, 0], Int32Array), other_top_probs: array([1, 2], [0.9, 0.05]) }, { labels: { word: ["x", "y", "z"] } });
  assert.deepEqual(both({ view: one, look: { query: 0 } as any }).map(({ word }) => word), ["z", "x", "y"]);
  const [z, x] = both({ view: one, look: { query: 0 } as any });
  assert.ok(Number.isNaN(z!.before) && x!.after.toFixed(2) === "0.05");
});

test("lines between heads are the strongest above the null", () => {
  const scores = new Float32Array(3 * 2 * 2 * 2 * 2).fill(NaN), at = (kind: number, a: number, b: number, c: number, d: number) => (((kind * 2 + a) * 2 + b) * 2 + c) * 2 + d;
  scores[at(0, 0, 1, 1, 0)] = 0.4; scores[at(2, 0, 0, 1, 1)] = 0.9; scores[at(1, 0, 0, 1, 0)] = 0.1;
  const detail = view("composition", { scores: array([3, 2, 2, 2, 2], scores), null_high: array([1], [0.2]), null_strongest: array([1], [0.5]) }), look = { layer: 0, head: 1 } as any;
  const of = (options: object) => found_pairs({ detail, look, options: { kind: "all", most: 9, own: false, ...options } }).drawn.map(({ kind, from, to }) => [kind, ...from, ...to]);
  assert.deepEqual(of({}), [[2, 0, 0, 1, 1], [0, 0, 1, 1, 0]]);
  assert.deepEqual(of({ own: true }), [[0, 0, 1, 1, 0]]);
  assert.deepEqual(of({ kind: "V" }), [[2, 0, 0, 1, 1]]);
  assert.deepEqual(of({ most: 1 }), [[2, 0, 0, 1, 1]]);
  const said = (options: object) => count_words(found_pairs({ detail, look, options: { kind: "all", most: 9, own: false, ...options } }));
  assert.match(said({}), /^2 of 3 pairs of heads are above 0\.200, .* by chance about 0\.1 would be\. 1 is above 0\.500; .* no pair is\. The grey line may be chance\.$/);
  assert.match(said({ kind: "Q" }), / None is above 0\.500; /);
  assert.match(said({ most: 1 }), /Drawn are the strongest 1\./);
  assert.match(said({ kind: "V" }), /^1 of 1 pairs of heads .* 1 is above 0\.500; in 95 of 100 models of random weights no pair is\.$/);
  assert.match(said({ kind: "K" }), /^0 of 1 pairs .* would be\.$/);
  for (const kind of [1, 2]) (detail.arrays.scores!.values as Float32Array)[at(kind, 0, 1, 1, 0)] = 0;
  assert.match(said({ own: true }), /^1 of 3 \(1 pair of heads, each by Q, K and V\) are above /);
});

test("the legend of composition explains the lines that are drawn, and no others", () => {
  const legend = (q: number, v: number) => {
    const scores = new Float32Array(3 * 4).fill(NaN), words: string[] = [];
    scores[1] = q; scores[9] = v; // L0H0 to L1H0, by Q and by V
    const detail = view("composition", { scores: array([3, 2, 1, 2, 1], scores), null_high: array([1], [0.2]), null_strongest: array([1], [0.5]) });
    const own: any = { fillText: (text: string) => words.push(text), measureText: (text: string) => ({ width: 6 * text.length }) };
    const here: any = { detail, view: detail, look: { layer: 0, head: 0 }, options: { kind: "all", most: 9, own: false }, pattern: { n_layer: 2, n_head: 1 }, theme: { series: [] }, measure: (text: string) => 6 * text.length };
    compositions[0]!.mark(new Proxy(own, { get: (target, key) => target[key] ?? (() => undefined) }), compositions[0]!.layout(here, 800), here);
    return words.filter((one) => /^[QKV]$|^width|^grey/.test(one)).join(" ");
  };
  assert.equal(legend(0.1, 0.1), "");
  assert.equal(legend(0.3, 0.1), "Q width: score grey: may be chance");
  assert.equal(legend(0.1, 0.9), "V width: score");
});

test("the bar of a negative cosine goes to the left of 0", () => {
  assert.deepEqual([bar_of(0.5, false, 52), bar_of(0.5, true, 52), bar_of(-0.5, true, 52)], [[0, 26], [26, 39], [13, 26]]);
  assert.deepEqual([bar_of(-0.01, true, 52), bar_of(0, true, 52)], [[23, 26], [26, 26]]);
});

test("turning points keeps their distances, and a search finds their names", () => {
  const detail = view("embeddings", { tokens_coordinates: array([2, 3], [2, 0, 0, 0, 0, 2]) }, { labels: { tokens: ["·Ada", "b"] } });
  for (const [yaw, pitch] of [[0, 0], [1, 0.5], [-2, 1]] as const)
    for (const point of project({ detail, options: { map: "3d", yaw, pitch } })) assert.ok(Math.abs(Math.hypot(...point) - 1) < 1e-9);
  assert.deepEqual(project({ detail, options: { map: "2d" } })[0]!.map((one) => one + 0), [1, 0, 0]);
  assert.deepEqual(points_found({ detail, options: { find: "ada" } }), [0]);
});

test("a head's label is the score that stands out, and the null decides which side counts", () => {
  const raw = (values: number[], shape: number[]) => ({ dtype: "float32", shape, axes: shape.map(() => ""), data: new Uint8Array(new Float32Array(values).buffer) });
  const detail = { kind: "head_scores", title: "", subtitle: "", labels: { score: ["induction", "entropy"], words: ["induction", "entropy"] }, units: {}, range: {}, checks: [],
    arrays: { value: raw([0.9, 0.1, 0.3, 1], [2, 1, 2]), null_low: raw([0, 0, 1, 1], [2, 1, 2]), null_high: raw([0.2, 0.2, 1, 1], [2, 1, 2]),
              label: { dtype: "int32", shape: [1, 2], axes: ["layer", "head"], data: new Uint8Array(new Int32Array([0, -1]).buffer) } } };
  const views = [view("head_scores", {}, { detail_axes: [], details: { "": detail } })], of = (score: string, at: number) => score_of({ views, options_of: () => ({ score }) } as any, at);
  assert.equal(of("stands_out", 0)!.name, "induction");
  assert.equal(of("stands_out", 1), null);
  assert.equal(of("most", 0), null);
  assert.deepEqual([0, 1].map((at) => beats_null(of("induction", at)!, at)), [true, false]);
  assert.deepEqual([0, 1].map((at) => beats_null(of("entropy", at)!, at)), [true, false]);
});

test("a cell of the circuits says its number at the typical scale, and that of the split score at its own scales", () => {
  const circuits = view("circuits", { scale: array([2, 3], [1, 1, 1, 0.1, 0.2, 0.4]), typical: array([2], [1, 0.2]), typical_final: array([1], [0.5]) }, { labels: { word: ["a", "b"] } });
  const detail = view("circuits", { qk: array([2, 2], [0, 0.5, 0, 0]), ov: array([2, 2], [0, 0, 2.5e-6, 0]) }), look = { layer: 1, head: 0, query: 2, key: 1 } as any;
  const said = (spot: any, at: any, place = look) => cell_sentence({ view: circuits, detail, look: place, spot }, at);
  assert.equal(said(undefined, { table: "qk", row: 0, column: 1 }),
    "The query ‘a’ with the key ‘b’ adds 0.5000 to the score of L1H0. At the own scales of positions 2 and 1: 0.2500, embed × embed of ‘Score, split exactly’.");
  assert.ok(!said({}, { table: "qk", row: 0, column: 1 }).includes("own scales")); // a cell under the mouse has no positions
  assert.ok(!said(undefined, { table: "qk", row: 0, column: 1 }, { ...look, query: 0, key: 1 }).includes("own scales")); // masked
  assert.equal(said({}, { table: "ov", row: 1, column: 0 }), "Attending wholly to ‘b’ adds 2.5e−6 to the logit of ‘a’.");
  assert.match(scales_words({ view: circuits, look }), /gain and centring are folded .* in layer 1 the median 0\.2000 .* logits 0\.5000\. Left out: biases/);
  assert.equal(singular_words([3, 1, 0]), "The first of 3 is 3.00, 90 % of the table’s sum of squares.");
});

test("the numbers of a table have one unit, and one that reads as 0 is known", () => {
  assert.deepEqual([0.0312, -0.0042, 0.0003, 0].map((one) => in_table(one, 0.0312)), ["0.031", "−0.004", "0.000", "0.000"]);
  assert.deepEqual([4.2, -0.004, 0.004].map((one) => in_table(one, 4.2)), ["4.20", "0.00", "0.00"]);
  assert.deepEqual([8.8e-6, 1e-7, 0].map((one) => in_table(one, 8.8e-6)), ["8.8e−6", "1.0e−7", "0"]);
  assert.deepEqual([0.00031, -8.84e-6, 0, 0.2268, NaN, -Infinity].map((one) => precise(one, 4)), ["3.1e−4", "−8.8e−6", "0", "0.2268", "NaN", "−∞"]);
  assert.deepEqual(["0.00", "−0.00", "0", "0.01", "8.8e−6", "NaN", "+∞"].map(is_zero), [true, true, true, false, false, false, false]);
});

test("a colour near 0 stands out from the dark paper, and steps outward are even", () => {
  const ratio = (a: string, b: string) => { const [x, y] = [luminance(parse(a)) + 0.05, luminance(parse(b)) + 0.05]; return Math.max(x, y) / Math.min(x, y); };
  for (const side of [points.dark.negative, points.dark.positive]) {
    const stops = side.split(" "), ratios = stops.map((one) => ratio(one, "#10151B"));
    assert.ok(ratios[0]! > 1.7, `${ratios[0]}`);
    for (let i = 1; i < ratios.length; i++) assert.ok(ratios[i]! / ratios[i - 1]! > 1.15 && ratios[i]! / ratios[i - 1]! < 1.35, `${i}`);
  }
  assert.deepEqual(at(points.dark.negative.split(" ").map(parse), 0), at(points.dark.positive.split(" ").map(parse), 0));
});

test("the words for the mask stand in the hatch, clear of the callout", () => {
  const square = { x: 138, y: 80, cell: 48, n: 8, inside: true, callout: { x: 421, y: 80, w: 304, h: 150 } }, w = 137;
  const clear = (shape: typeof square, wide: number, h: number): number => {
    const { end, middle } = mask_note(shape, wide, h)!, { x, y, cell, callout } = shape;
    assert.ok(end - wide >= x + Math.ceil((middle + h / 2 - y) / cell) * cell, "right of the cells");
    assert.ok(end <= callout.x || middle - h / 2 >= callout.y + callout.h, "not behind the callout");
    return middle;
  };
  assert.ok(clear(square, w, 20) < 230); // beside it
  assert.ok(clear({ ...square, n: 18, cell: 34, callout: { x: 600, y: 80, w: 304, h: 150 } }, w, 20) > 230); // below it, where there is room
  const narrow = { x: 519, y: 208, cell: 41, n: 11, inside: true, callout: { x: 743, y: 208, w: 232, h: 190 } };
  assert.equal(mask_note(narrow, w, 20), null);
  clear(narrow, 90, 36); // on two lines
  assert.equal(mask_note({ ...square, inside: false, callout: { x: 0, y: 500, w: 400, h: 90 } }, w, 20)!.end, 138 + 8 * 48 - 4);
});

test("the axis of the scores ends where they do, and says what chance would give", () => {
  const score = (name: string, value: number[], high: number[]) => ({ name, words: name, value: Float32Array.from(value), low: Float32Array.from(value.map(() => 0)), high: Float32Array.from(high), most: 1, unit: "" });
  assert.equal(end_of(score("induction", [0.03, 0.06], [0.05, 0.05])), 0.1);
  assert.equal(end_of(score("induction", [0.03, NaN], [0.05, 0.3])), 0.4);
  assert.equal(end_of(score("induction", [0.95], [0.05])), 1);
  assert.equal(end_of(score("distance", [3, 12], [5, 5])), 12);
  assert.equal(counted(score("induction", [0.03, 0.06, NaN], [0.05, 0.05, NaN])), "1 of 2 heads above their band; by chance 1 in 40");
  assert.equal(counted(score("entropy", [0.5], [1])), "1: attention is even");
  assert.deepEqual([0.101, 0.1, 2, -1].map((value) => x_of({ left: 8, wide: 615, most: 1 }, value)), [8 + 615 * 0.101, 69.5, 623, 8]); // not rounded to a stack's place
});

test("positions of which not each is drawn are told", () => {
  const of = (values: number[]) => apart({ arrays: { places: { shape: [values.length], axes: [], values: Int32Array.from(values) } } });
  assert.deepEqual([of([0, 1, 2]), of([0]), of([0, 4, 8]), apart(null)], ["", "", " · one position in 4 is drawn", ""]);
});

test("a token that turns the order of signs is shut off, and only such a token", () => {
  for (const token of ["·Ada", "中", "∅", "🎲"]) assert.equal(isolated(token), token);
  for (const token of ["שלום", "\u202e", "م"]) assert.ok(quoted(token) === `‘\u2068${token}\u2069’` && in_quotes(token) === quoted(token));
});

test("the weakest line is seen on either paper", () => {
  const [paper, ink] = [["#FFFFFF", "#10151B"], [["#0067A5", "#8F5B00", "#007A5E", "#A33D7B"], ["#6CB8F0", "#F0B429", "#4CCBA2", "#E59CC8"]]] as const;
  ink.forEach((series, theme) => series.forEach((colour) => {
    const [from, to] = [parse(paper[theme]!), parse(colour)], mixed = from.map((c, i) => c + (to[i]! - c) * opacity(0)) as [number, number, number];
    const [a, b] = [luminance(mixed) + 0.05, luminance(from) + 0.05];
    assert.ok(Math.max(a, b) / Math.min(a, b) >= 2, colour);
  }));
});

test("matches say their place in the text", () => {
  const tokens = ["a", "b", "a", "c"], said = (find: string, query: number) => matches({ tokens, options: { find }, look: { query } as any });
  assert.deepEqual([said("c", 0), said("c", 3), said("a", 1), said("a", 2), said("z", 0), said(" ", 0)],
                   ["1 match, token 3 · Enter goes there", "1 match, token 3", "2 matches, the first is token 0 · Enter goes on", "match 2 of 2, token 2 · Enter goes on", "no match", ""]);
});

test("a head is muted by the kernel, or a sentence says what would", () => {
  const look = { layer: 1, head: 0 } as any, edits = [view("edits", {})];
  assert.deepEqual(mute({ live: true, views: edits, look }), { act: { name: "edit", value: { do: "mute", layer: 1, head: 0 } } });
  assert.match(mute({ live: false, views: edits, look }).note!, /^Muting L1H0 .* needs a kernel: .* gv\.explore\(trace, model, tokenizer\)\.$/);
  assert.match(mute({ live: true, views: [], look }).note!, /which this board does not do: gv\.explore/);
});
