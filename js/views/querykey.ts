// Query and key, dimension by dimension: their product summed is the score, its softmax the pattern.
import { around } from "../colour.ts";
import { font, Pen } from "../paint.ts";
import type { Hit, Panel, Patch, Sized } from "../panel.ts";
import type { View } from "../payload.ts";
import type { Scene } from "../scene.ts";
import { detail_to_show } from "../stale.ts";
import { ellipsis, fixed, head_name, in_table, precise, quoted, wrap } from "../text.ts";

interface Strips extends Sized { d: number; cell: number; k: number; product: number; score: number; weight: number; top: number; key: number; n: number; foot: number }

const pitch = 18, name = 132, numbers = 180, largest_cell = 14;
const sentences_height = (width: number): number => (width < 700 ? 80 : 40); // two sentences, in a narrow panel each of two lines

/** Scores and softmax weights of one query with every key that it may see; 0 and -inf nowhere, because nothing is masked. */
export function scores_of(detail: View, query: number): { scores: Float64Array; weights: Float64Array } {
  const { q, k } = detail.arrays, d = q!.shape[1]!, scores = new Float64Array(query + 1);
  for (let key = 0; key <= query; key++) {
    let sum = 0;
    for (let i = 0; i < d; i++) sum += q!.values[query * d + i]! * k!.values[key * d + i]!;
    scores[key] = sum / Math.sqrt(d);
  }
  const high = scores.reduce((a, b) => Math.max(a, b), -Infinity), powers = scores.map((score) => Math.exp(score - high)), total = powers.reduce((a, b) => a + b, 0);
  return { scores, weights: powers.map((power) => power / total) };
}

const extent = (values: ArrayLike<number>): number => Math.max(1e-9, Array.prototype.reduce.call(values, (most: any, value: any) => (Math.abs(value) > most ? Math.abs(value) : most), 0) as number);

/** The largest product of the query with any key that it may see. */
function product_extent(detail: View, query: number): number {
  const { q, k } = detail.arrays, d = q!.shape[1]!;
  let most = 1e-9;
  for (let at = 0; at < (query + 1) * d; at++) most = Math.max(most, Math.abs(k!.values[at]! * q!.values[query * d + (at % d)]!) || 0);
  return most;
}

function layout(scene: Scene, width: number): Strips {
  const { shown } = detail_to_show(scene), d = shown?.arrays.q?.shape[1] ?? 1, n = Math.min(scene.place.window, scene.tokens.length);
  const room = width - name - numbers - 24, cell = Math.max(0.5, Math.min(largest_cell, Math.floor((room / 2 / d) * 2) / 2)), strip = cell * d;
  const top = 96, k = name, product = name + strip + 24;
  return { width, height: top + n * pitch + 88 + sentences_height(width), d, cell, k, product, score: product + strip + 24, weight: product + strip + 174, top, key: scene.corner.key, n, foot: top + n * pitch };
}

function draw(ctx: CanvasRenderingContext2D, strips: Strips, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, look, tokens } = scene, { shown, stale } = detail_to_show(scene), note = scene.view.labels.note?.[0];
  if (note || !shown) return pen.text(note ?? scene.detail_words, 0, 18, { colour: theme.ink_3 });
  if (stale) ctx.globalAlpha = 0.55;
  const { q, k } = shown.arrays, { scores, weights } = scores_of(shown, look.query), ranges = [extent(q!.values), extent(k!.values), product_extent(shown, look.query)] as const, most = extent(scores);
  draw_head(pen, strips, scene);
  strip(pen, strips, strips.k, 36, (i) => q!.values[look.query * strips.d + i]!, ranges[0]);
  const last = Math.min(strips.key + strips.n - 1, look.query);
  for (let key = strips.key; key <= last; key++) {
    const y = strips.top + (key - strips.key) * pitch;
    strip(pen, strips, strips.k, y, (i) => k!.values[key * strips.d + i]!, ranges[1]);
    strip(pen, strips, strips.product, y, (i) => q!.values[look.query * strips.d + i]! * k!.values[key * strips.d + i]!, ranges[2]);
    pen.text(in_table(scores[key]!, most), strips.score + 44, y + 13, { align: "right", colour: theme.ink });
    pen.bar(strips.weight - 86, y + 3, 36, 10, weights[key]!, theme.sequential.css[Math.round(255 * Math.sqrt(Math.min(1, weights[key]! || 0)))]!);
    pen.text(fixed(weights[key]!, 3), strips.weight, y + 13, { align: "right", colour: theme.ink });
  }
  const masked = strips.key + strips.n - 1 - last;
  if (masked > 0) pen.text(strips.key > look.query ? "The keys of this window come after the query: masked." : `${masked} later key${masked > 1 ? "s" : ""} masked`, strips.k, strips.top + Math.max(0, last + 1 - strips.key) * pitch + 13, { colour: theme.ink_3 });
  draw_legends(pen, strips, ranges, [...q!.values, ...k!.values].some((value) => !Number.isFinite(value)));
  ctx.globalAlpha = 1;
  for (let key = strips.key; key < strips.key + strips.n; key++) draw_name(pen, strips, scene, key, tokens[key]!);
}

function draw_head(pen: Pen, strips: Strips, { theme, look, tokens, measure }: Scene): void {
  const letter = (words: string, x: number, y: number, colour: string) => pen.text(words, x, y, { weight: 700, colour, size: 13 });
  letter("Q", 0, 49, theme.series[0]!); // the colours of Q and K are those of series 1 and 3
  const ink = { mono: true, weight: 700, colour: theme.accent };
  pen.text(ellipsis(tokens[look.query]!, name - 60, font(theme, ink), measure), 18, 49, ink);
  pen.text(String(look.query), name - 10, 49, { align: "right", colour: theme.accent });
  pen.text(`dimensions 0 to ${strips.d - 1} →`, strips.k, 26, { colour: theme.ink_3 });
  letter("K", 0, strips.top - 10, theme.series[2]!);
  pen.text("key (attended to) ↓", 18, strips.top - 10, { weight: 500, colour: theme.ink });
  letter("Q × K", strips.product, strips.top - 10, theme.ink);
  pen.text("score", strips.score + 44, strips.top - 10, { align: "right", weight: 500, colour: theme.ink });
  pen.text("softmax", strips.weight, strips.top - 10, { align: "right", weight: 500, colour: theme.ink });
}

function draw_name(pen: Pen, strips: Strips, { theme, look, measure }: Scene, key: number, token: string): void {
  const lit = key === look.key, y = strips.top + (key - strips.key) * pitch + 13, ink = { mono: true, weight: lit ? 700 : 400, colour: key > look.query ? theme.ink_3 : lit ? theme.ink : theme.ink_2 };
  pen.text(ellipsis(token, name - 60, font(theme, ink), measure), 18, y, ink);
  pen.text(String(key), name - 10, y, { align: "right", colour: ink.colour });
}

function strip(pen: Pen, { d, cell }: Strips, x: number, y: number, value: (i: number) => number, most: number): void {
  const { ctx, theme } = pen, gap = cell >= 5 ? 1 : 0;
  for (let i = 0; i < d; i++) {
    const one = value(i);
    ctx.fillStyle = Number.isFinite(one) ? theme.diverging.css[around(one, most)]! : theme.ink;
    ctx.fillRect(x + i * cell, y + 1, cell - gap, pitch - 2);
  }
}

function draw_legends(pen: Pen, strips: Strips, [q, k, product]: readonly [number, number, number], strange: boolean): void {
  const { theme } = pen, y = strips.foot + 38 + sentences_height(strips.width), third = Math.min(200, (strips.width - 60) / 3);
  ([["Q", q, theme.series[0]!], ["K", k, theme.series[2]!], ["Q × K", product, theme.ink]] as const).forEach(([letter, most, colour], i) => {
    const x = i * (third + 20), words = pen.width(letter, { weight: 700 }) + 10;
    pen.text(letter, x, y + 9, { weight: 700, colour });
    pen.legend(x + words, y, third - words - 10, theme.diverging, [precise(-most), "0", precise(most)]);
  });
  if (strange) pen.text("ink: not a finite number", 3 * (third + 20), y + 9, { colour: theme.ink });
}

/** The dimension under the mouse, else the chosen one. */
const dimension_of = ({ spot, options }: Scene): number | null => (spot as number | undefined) ?? options.dimension ?? null;

function mark(ctx: CanvasRenderingContext2D, strips: Strips, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, look, measure } = scene, { shown, stale } = detail_to_show(scene);
  if (!shown) return;
  if (stale) pen.text(scene.detail_words, strips.product, 26, { colour: theme.ink_3 });
  const y = strips.top + (look.key - strips.key) * pitch, seen = look.key >= strips.key && look.key < strips.key + strips.n && look.key <= look.query;
  if (seen) pen.stroke(strips.k - 2.5, y - 0.5, strips.weight - strips.k + 6, pitch, theme.accent, 1.5, 3);
  const dimension = dimension_of(scene);
  if (dimension !== null && dimension < strips.d)
    for (const [x, top, bottom] of [[strips.k, 36, strips.foot], [strips.product, strips.top, strips.foot]] as const)
      pen.stroke(x + dimension * strips.cell - 1, top - 1, strips.cell + 1, bottom - top + 2, theme.ink, 1, 2, [3, 3]);
  if (look.key > look.query) return;
  const lines = sentences(scene, shown).flatMap((words, i) => wrap(words, strips.width, font(theme, { size: 13 }), measure).map((line): [string, string] => [line, i ? theme.ink_2 : theme.ink]));
  lines.slice(0, sentences_height(strips.width) / 20).forEach(([line, colour], i) => pen.text(line, 0, strips.foot + 20 + 20 * i, { size: 13, colour }));
}

/** The arithmetic of the chosen cell, and its checks. */
function sentences(scene: Scene, detail: View): string[] {
  const { look } = scene, { q, k } = detail.arrays, d = q!.shape[1]!, { scores, weights } = scores_of(detail, look.query), score = scores[look.key]!, dimension = dimension_of(scene);
  const a = dimension === null ? 0 : q!.values[look.query * d + dimension]!, b = dimension === null ? 0 : k!.values[look.key * d + dimension]!;
  const product = dimension === null || dimension >= d ? "" : ` · dimension ${dimension}: ${precise(a, 4)} × ${precise(b, 4)} = ${precise(a * b, 4)}`;
  return [`Query ${look.query} · key ${look.key}: sum ${precise(score * Math.sqrt(d), 4)} / √${d} = score ${precise(score, 4)} · softmax over ${look.query + 1} keys: ${precise(weights[look.key]!, 4)}${product}`,
          detail.checks.map((check) => `${check.passed ? "✓" : "✕"} ${check.name}: error ${check.error}`).join("   ")];
}

function hit(strips: Strips, x: number, y: number, scene: Scene): Hit | null {
  const row = Math.floor((y - strips.top) / pitch), key = strips.key + row, { query } = scene.look;
  const start = x >= strips.product ? strips.product : strips.k, i = Math.floor((x - start) / strips.cell), dimension = x >= strips.k && i >= 0 && i < strips.d ? i : undefined;
  const on_query = y >= 32 && y < 32 + pitch + 8 && x < strips.product - 12;
  if (!on_query && (row < 0 || row >= strips.n || key > query)) return null;
  return { at: on_query ? { query } : { query, key }, spot: dimension, options: dimension === undefined ? undefined : { dimension } };
}

/** Up and down choose the key, left and right the dimension. */
function press(name: string, scene: Scene): Patch | null {
  const { look, options } = scene, d = detail_to_show(scene).shown?.arrays.q?.shape[1] ?? 1, step = { ArrowLeft: -1, ArrowRight: 1 }[name];
  if (step) return { options: { dimension: Math.max(0, Math.min(d - 1, (options.dimension ?? (step > 0 ? -1 : d)) + step)) } };
  const to: Record<string, number> = { ArrowUp: look.key - 1, ArrowDown: look.key + 1, Home: 0, End: look.query };
  return name in to ? { selection: { layer: look.layer, head: look.head, query: look.query, key: Math.max(0, Math.min(look.query, to[name]!)) } } : null;
}

const querykey: Panel<Strips> = {
  kind: "querykey", name: "querykey", folded: true, half: ({ view }) => (view.content?.d_head ?? 64) <= 24, tall: ({ place, tokens }) => 250 + pitch * Math.min(place.window, tokens.length), by_detail: true,
  slot: () => "below",
  heading: ({ view, look }) => ({ title: `${view.title} of ${head_name(look.layer, look.head)}`, subtitle: view.subtitle }),
  layout, draw, mark, hit, press,
  stale: ({ look, corner, detail, detail_words }) => `${look.layer} ${look.head} ${look.query} ${look.key} ${corner.key} ${detail ? "" : detail_words}`,
  says(scene) {
    const { look, tokens, detail, view } = scene, head = head_name(look.layer, look.head);
    if (!detail) return `${head}: ${view.labels.note?.[0] ?? scene.detail_words}`;
    if (look.key > look.query) return `${head}: key ${look.key} comes after query ${look.query}: masked.`;
    return `${head}, ${quoted(tokens[look.query]!)} to ${quoted(tokens[look.key]!)}. ${sentences(scene, detail)[0]}.`;
  },
};

export const panels: Panel[] = [querykey];
