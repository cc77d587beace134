// Scales, text, patterns and the golden payload that Python's tests read too.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { at, ink_on, luminance, make_scale, parse, points, type Rgb } from "../colour.ts";
import { ticks_meet } from "../paint.ts";
import { Pattern } from "../pattern.ts";
import { decode_array, decode_view, type RawBoard, type View } from "../payload.ts";
import { ellipsis, fixed, in_table, precise, relation, short, size, whole, wrap } from "../text.ts";

const golden = JSON.parse(readFileSync("../tests/golden/board.json", "utf8")) as RawBoard;
const [attention, tokens, training] = golden.views.map((view) => decode_view(view));
const measure = (text: string) => 7 * [...text].length;

test("the golden payload decodes to Python's numbers", () => {
  const pattern = new Pattern(attention!);
  assert.deepEqual([pattern.n_layer, pattern.n_head, pattern.exact(0, 0, 0)], [1, 2, true]);
  assert.equal(pattern.weight(0, 0, 1, 1), 0.75);
  assert.equal(pattern.weight(0, 1, 2, 2).toFixed(4), "0.6000");
  assert.equal(pattern.weight(0, 1, 0, 2), 0);
  assert.equal(pattern.strongest(0, 0, 1), 1);
  const loss = tokens!.arrays.loss!.values;
  assert.ok(Number.isNaN(loss[0]));
  assert.deepEqual([loss[1], loss[2]], [0.5, 7]);
  assert.equal(tokens!.labels.word![tokens!.arrays.top_words!.values[2]!], '<img src=x onerror="document.title=1">');
  assert.ok(Number.isNaN(training!.arrays.values_0!.values[1]));
  assert.deepEqual([...training!.arrays.steps_1!.values], [0, 10]);
});

test("arrays come as base64, DataViews at any offset, and numbered buffers", () => {
  const bytes = new Uint8Array(new Float32Array([1.5, -2]).buffer), odd = new Uint8Array(9);
  odd.set(bytes, 1);
  const raw = { dtype: "float32", shape: [2], axes: ["pos"] };
  const unaligned = new DataView(odd.buffer, 1, 8);
  assert.deepEqual([...decode_array({ ...raw, data: unaligned }).values], [1.5, -2]);
  assert.deepEqual([...decode_array({ ...raw, data: { buffer: 0 } }, [unaligned]).values], [1.5, -2]);
  assert.deepEqual([...decode_array({ ...raw, data: Buffer.from(bytes).toString("base64") }).values], [1.5, -2]);
  assert.throws(() => decode_array({ ...raw, shape: [3], data: unaligned }), /needs 12 bytes; it has 8/);
  assert.throws(() => decode_array({ ...raw, dtype: "float64", data: unaligned }), /it is float64/);
});

function view_of(arrays: View["arrays"], n: number, more: Partial<View> = {}): View {
  return { kind: "attention", title: "", subtitle: "", arrays, labels: { token: Array(n).fill("t") }, units: {}, range: {}, checks: [], ...more };
}

function bytes_pattern(n: number, p: (query: number, key: number) => number): Pattern {
  const values = new Uint8Array((n * (n + 1)) / 2);
  for (let query = 0, i = 0; query < n; query++) for (let key = 0; key <= query; key++) values[i++] = Math.round(255 * Math.sqrt(p(query, key)));
  return new Pattern(view_of({ pattern: { shape: [1, 1, values.length], axes: ["layer", "head", "packed"], values } }, n));
}

const row_sum = (pattern: Pattern, query: number): number => Array.from({ length: query + 1 }, (_, key) => pattern.weight(0, 0, query, key)).reduce((a, b) => a + b, 0);

test("a byte is off by no more than it says, and its row has its sum", () => {
  const part = (query: number, key: number) => ((query * 7 + key * 13) % 100) / 100 + 1e-4;
  const total = (query: number) => Array.from({ length: query + 1 }, (_, key) => part(query, key)).reduce((a, b) => a + b, 0);
  const truth = (query: number, key: number) => part(query, key) / total(query), pattern = bytes_pattern(40, truth);
  for (let query = 0; query < 40; query++) {
    assert.ok(Math.abs(row_sum(pattern, query) - 1) < 1e-9, `${query}: ${row_sum(pattern, query)}`);
    for (let key = 0; key <= query; key++) assert.ok(Math.abs(pattern.weight(0, 0, query, key) - truth(query, key)) <= pattern.rounding(0, 0, query, key) + 1e-12);
  }
});

test("of 5,000 equal weights, which are 1.23 as bytes, each is right", () => {
  const bytes = new Uint8Array(5000).fill(Math.round(255 * Math.sqrt(1 / 5000))), first = 4999;
  assert.equal(bytes.reduce((sum, byte) => sum + (byte / 255) ** 2, 0).toFixed(2), "1.23");
  const block = (sums: object) => ({ kind: "attention", title: "", subtitle: "", labels: {}, units: {}, range: {}, checks: [], arrays: {
    cells: { dtype: "uint8", shape: [5000], axes: ["packed"], data: bytes }, rows: { dtype: "int32", shape: [2], axes: ["end"], data: new Int32Array([first, 5000]) }, ...sums } });
  const seen = (sums = {}) => new Pattern(view_of({ tiles: { shape: [1, 1, 1, 1], axes: [], values: new Uint8Array(1) }, block: { shape: [1], axes: [], values: new Int32Array([first]) } }, 5000,
                                                  { detail_axes: ["layer", "head", "rows"], details: { [`0,0,${first}`]: block(sums) } }));
  assert.ok(Math.abs(seen().weight(0, 0, first, 17) - 1 / 5000) < 1e-9);
  assert.ok(Math.abs(row_sum(seen(), first) - 1) < 1e-9);
  const told = seen({ sums: { dtype: "float32", shape: [1], axes: ["row"], data: new Float32Array([1.25]) } }); // a row of another sum says so
  assert.ok(Math.abs(row_sum(told, first) - 1.25) < 1e-6);
});

test("a tile keeps the largest cell and the triangle", () => {
  const pattern = bytes_pattern(100, (query, key) => (query === 70 && key === 33 ? 1 : 0.01));
  const tile = pattern.tile(0, 0, 10);
  assert.equal(tile[7 * 10 + 3], 255);
  assert.equal(tile[2 * 10 + 5], 0); // masked
  assert.equal(pattern.tile(0, 0, 10), tile); // made once
  const spread = bytes_pattern(3, () => 1).tile(0, 0, 9); // more pixels than cells: none stays empty
  for (let y = 0; y < 9; y++) for (let x = 0; x <= y - (y % 3); x++) assert.equal(spread[y * 9 + x], 255, `${y} ${x}`);
});

test("a head with a NaN says so", () => {
  const pattern = new Pattern(view_of({ pattern: { shape: [1, 1, 3], axes: [], values: new Float32Array([1, NaN, 0.5]) } }, 2));
  assert.ok(pattern.broken(0, 0));
  assert.ok(Number.isNaN(pattern.weight(0, 0, 1, 0)));
  assert.equal(pattern.byte(0, 0, 1, 0), 0);
});

function oklab([r, g, b]: Rgb): Rgb {
  const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4)) as Rgb;
  const l = Math.cbrt(0.4122214708 * x + 0.5363325363 * y + 0.0514459929 * z), m = Math.cbrt(0.2119034982 * x + 0.6806995451 * y + 0.1073969566 * z);
  const s = Math.cbrt(0.0883024619 * x + 0.2817188376 * y + 0.6299787005 * z);
  return [0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s, 1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s, 0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s];
}

test("scales are perceptually even, ink reads on every colour", () => {
  for (const theme of [points.light, points.dark]) {
    const stops = theme.sequential.split(" ").map(parse);
    for (let i = 1; i < stops.length; i++) {
      const [a, b] = [oklab(stops[i - 1]!), oklab(stops[i]!)];
      const distance = Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
      assert.ok(distance > 0.085 && distance < 0.105, `${i}: ${distance}`);
    }
    for (const hexes of [theme.sequential, theme.loss, theme.negative, theme.positive])
      for (let i = 0; i < 256; i++) {
        const colour = at(hexes.split(" ").map(parse), i / 255), ink = ink_on(colour) === "#000000" ? 0 : 1;
        const [light, dark] = [Math.max(luminance(colour), ink), Math.min(luminance(colour), ink)];
        assert.ok((light + 0.05) / (dark + 0.05) >= 4.5);
      }
  }
  assert.equal(make_scale(points.light.sequential).css[0], "rgb(239 246 248)");
  assert.equal(make_scale(points.light.sequential).rgba[255], 0xff36231c); // #1C2336 in little-endian RGBA
});

test("numbers are written one way", () => {
  assert.equal(fixed(-0.5, 2), "−0.50");
  assert.equal(fixed(-0.004, 2), "0.00");
  assert.equal(fixed(NaN, 4), "NaN");
  assert.equal(fixed(-Infinity, 2), "−∞");
  assert.deepEqual([short(0.914), short(0.9999)], [".91", "1.0"]);
  assert.equal(whole(1234567), "1\u2009234\u2009567");
  assert.deepEqual([size(48_200), size(24_100_000)], ["48 kB", "24.1 MB"]);
});

test("numbers are written as in Python", () => {
  const written = JSON.parse(readFileSync("../tests/golden/numbers.json", "utf8")) as Record<"precise" | "in_table", [number, number, string][]>;
  for (const [name, write] of [["precise", precise], ["in_table", in_table]] as const)
    for (const [value, other, words] of written[name]) assert.equal(write(value, other), words, `${name} ${value}`);
});

test("words fit their room, even 10,000 signs and split emoji", () => {
  assert.equal(ellipsis("opened", 42, "", measure), "opened");
  assert.equal(ellipsis("opened", 28, "", measure), "ope…");
  assert.ok(measure(ellipsis("x".repeat(10_000), 100, "", measure)) <= 100);
  assert.equal(ellipsis("👩👩👩", 14, "", measure), "👩…");
  for (const line of wrap("At ‘·Ada’ this head puts 91 % of its attention on ‘·opened’", 140, "", measure)) assert.ok(measure(line) <= 140);
});

test("the relation of a key to a query is a fact about the text", () => {
  const text = ["When", "·Ada", "·opened", "·When", "·Ada"];
  assert.equal(relation(text, 4, 2), "the token that came after ‘·Ada’ last time");
  assert.equal(relation(text, 4, 1), "the same token, 3 back");
  assert.equal(relation(text, 4, 3), "the token before");
  assert.equal(relation(text, 4, 4), "itself");
  assert.equal(relation(text, 2, 0), "the first token");
  assert.equal(relation(["a", "b", "c", "d", "e"], 4, 1), "3 tokens back");
});

test("a long text's head comes in rows, and until then only its tile is known", () => {
  const array = (shape: number[], values: number[], type: any = Uint8Array) => ({ shape, axes: shape.map(() => ""), values: new type(values) });
  const raw = (values: number[], first: number, last: number) => ({
    kind: "attention", title: "", subtitle: "", labels: {}, units: {}, range: {}, checks: [],
    arrays: { cells: { dtype: "uint8", shape: [values.length], axes: ["packed"], data: new Uint8Array(values) },
              rows: { dtype: "int32", shape: [2], axes: ["end"], data: new Uint8Array(new Int32Array([first, last]).buffer) } },
  });
  const pattern = new Pattern(view_of({ tiles: array([1, 1, 2, 2], [255, 0, 51, 102]), peaks: array([1, 1, 4], [255, 204, 51, 102]), block: array([1], [2], Int32Array) }, 4,
    { detail_axes: ["layer", "head", "rows"], details: { "0,0,2": raw([51, 0, 0, 255, 102, 204, 0], 2, 4) } }));
  assert.ok(!pattern.has(0, 0, 1) && pattern.has(0, 0, 2) && pattern.has(0, 0, 3));
  assert.ok(Number.isNaN(pattern.weight(0, 0, 1, 0)));
  assert.equal(pattern.byte(0, 0, 1, 1), 255);
  assert.equal(pattern.peak(0, 0, 1).toFixed(2), "0.64");
  assert.equal(pattern.weight(0, 0, 2, 0).toFixed(2), "0.04");
  assert.equal(pattern.weight(0, 0, 3, 2).toFixed(2), "0.64");
  assert.equal(pattern.strongest(0, 0, 3), 0);
  assert.equal(pattern.tile(0, 0, 4)[2 * 4 + 3], 102);
});

test("the numbers of a scale that would come near each other leave the ends alone", () => {
  assert.equal(ticks_meet([36, 44, 6, 44, 36], 240), true); // −0.37 −0.093 0 +0.093 +0.37: the first two nearly touch
  assert.equal(ticks_meet([36, 36, 6, 36, 36], 240), false);
  assert.equal(ticks_meet([6, 18, 18, 18, 6], 120), false);
  assert.equal(ticks_meet([80, 80], 160), true);
});
