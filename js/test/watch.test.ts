// Before and after, and walking through the steps.
import assert from "node:assert/strict";
import { mock, test } from "node:test";
import type { View } from "../payload.ts";
import { pattern_of, type Scene } from "../scene.ts";
import { shown_pattern } from "../shown.ts";
import { since } from "../since.ts";
import { Player } from "../player.ts";
import { is_left_out, left_out } from "../details.ts";
import { is_broken, liveliest, panels } from "../views/film.ts";
import { count, hidden_of, is_judged } from "../views/guesses.ts";

const array = (shape: number[], values: ArrayLike<number>, type: any = Float32Array) => ({ shape, axes: shape.map(() => ""), values: new type(values) });
const view = (kind: string, arrays: View["arrays"], more: Partial<View> = {}): View =>
  ({ kind, title: "", subtitle: "", units: {}, range: {}, checks: [], labels: { token: ["a", "b"] }, arrays, ...more });
const heads = (p: number[]) => view("attention", { pattern: array([1, 1, 3], p) });
const text = (loss: number[]) => view("tokens", { loss: array([2], loss) });

test("heads and text change since an earlier step, later minus earlier", () => {
  const now = [heads([1, 0.2, 0.8]), text([NaN, 0.5])], then = [heads([1, 0.7, 0.3]), text([NaN, 2])];
  const [merged, strip] = since(now, then, 600, 20) as [View, View];
  const change = shown_pattern({ views: [merged], pattern: pattern_of([merged]), options_of: () => ({ compare: "difference" }) } as any);
  assert.equal(change.weight(0, 0, 1, 1).toFixed(4), "0.5000");
  assert.equal(change.weight(0, 0, 1, 0).toFixed(4), "-0.5000");
  assert.ok(change.byte(0, 0, 1, 1) > 128 && change.byte(0, 0, 1, 0) < 128);
  assert.deepEqual(merged.labels.compared, ["step 600", "step 20"]);
  const values = strip.arrays[strip.content!.change]!.values;
  assert.ok(Number.isNaN(values[0]));
  assert.equal(values[1], -1.5);
  assert.deepEqual(strip.range[strip.content!.change], [-1.5, 1.5]);
  assert.equal(since(now, then, 600, 20)[0], merged); // the same view again: nothing is laid out anew
});

test("what cannot be compared stays as it is", () => {
  const now = [heads([1, 0.2, 0.8]), view("training", {})];
  assert.equal(since(now, undefined, 600, 20), now);
  assert.deepEqual(since(now, now, 20, 20), now);
  const longer = [view("attention", { pattern: array([1, 1, 6], [1, 0, 1, 0, 0, 1]) })];
  assert.equal(since(now, longer, 600, 20)[0], now[0]);
});

test("playing stops at the last step and tells of start and stop", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  let at = 0, told = 0;
  const player = new Player(() => ++at < 3, () => told++);
  player.toggle(10);
  assert.ok(player.playing);
  for (let i = 0; i < 10; i++) mock.timers.tick(700);
  assert.deepEqual([at, told, player.playing], [3, 2, false]);
  player.toggle(10);
  player.toggle(10);
  for (let i = 0; i < 10; i++) mock.timers.tick(700);
  assert.equal(at, 3);
  mock.timers.reset();
});

test("right ones are counted among the judged", () => {
  const one = view("guesses", { right: array([2, 4], [1, 0, 2, 1, 1, 1, 2, 1], Uint8Array) });
  assert.deepEqual([count(one, 0), count(one, 1)], [[2, 3], [3, 3]]);
  assert.equal(is_judged(one), true);
  assert.equal(is_judged(view("guesses", { right: array([1, 4], [2, 2, 2, 2], Uint8Array) })), false);
});

test("judged columns without room are counted, those that nobody judges are not", () => {
  const one = view("guesses", { right: array([2, 4], [2, 0, 2, 1, 2, 1, 1, 1], Uint8Array) });
  assert.deepEqual([0, 1, 2, 3].map((first) => hidden_of(one, first)), [0, 0, 1, 2]);
});

test("a picture with a row that is not finite is marked", () => {
  const strip = { arrays: { broken: array([2, 3], [0, 0, 0, 0, 1, 0], Uint8Array) } } as any;
  assert.deepEqual([0, 1].map((i) => is_broken(strip, i)), [false, true]);
});

test("a page without a head's pictures has a sentence and nothing to click, and nothing to unfold if it has none", () => {
  const film = panels[0]!, one = view("film", {}, { content: { steps: [0, 10], n_tokens: 2 }, detail_axes: ["layer", "head"] });
  const scene = { view: one, detail: null, detail_words: left_out, look: { layer: 2, head: 1, step: 10 }, options: {}, theme: {} } as unknown as Scene, strip = film.layout(scene, 800);
  const told: string[] = [], ctx = new Proxy({} as any, { get: (_, name) => (name === "fillText" ? (text: string) => told.push(text) : () => undefined), set: () => true });
  film.draw(ctx, strip, scene);
  film.mark(ctx, strip, scene);
  assert.deepEqual(told, ["The pictures of L2H1: left out of this page to keep it small; the notebook shows it."]);
  assert.equal(film.hit(strip, 10, 10, scene), null);
  assert.equal(film.says(scene), told[0]);
  assert.ok(strip.height < 40 && film.layout({ ...scene, detail_words: "asking the kernel …" }, 800).height > 100, "the place of pictures that are on their way");
  assert.ok(is_left_out(one) && !is_left_out({ ...one, details: { "0,0": {} as any } }) && !is_left_out(text([NaN, 1])));
});

test("the film says where its head changed most", () => {
  assert.equal(liveliest({ shape: [4, 1, 2], values: [0, 0, 1, 1, 90, 90, 95, 90] }), 2);
});
