// The locked head, large: real tokens on both named axes, the chosen row, and the value in words.
import { score_of } from "../head_scores.ts";
import { font, Pen } from "../paint.ts";
import type { Control, Hit, Panel, Patch, Sized } from "../panel.ts";
import type { Pattern } from "../pattern.ts";
import type { Scene } from "../scene.ts";
import { has_other, minus_words, named_tokens, names_of, shown_of, shown_pattern } from "../shown.ts";
import { ellipsis, fixed, head_name, precise, quoted, relation, short, signed, signed_fixed, whole, wrap } from "../text.ts";
import { mute } from "./edits.ts";
import { found } from "./ruler.ts";

interface Legend { x: number; y: number; w: number; stacked: boolean }
interface Box { x: number; y: number; w: number; h: number }
interface Square extends Sized {
  x: number; y: number; cell: number; n: number; query: number; key: number; n_tokens: number; tall: number;
  callout: Box; inside: boolean; map: Box | null; legend: Legend; bars: number;
  /** What the shown keys receive from all queries of the head drawn; null where not all its rows are here. */
  sums: Float64Array | null;
}

const mono = { mono: true } as const;
const query_axis = "query (attends) ↓", key_axis = "key (attended to) →";
const sums_height = 44;
const windows = [8, 16, 24, 32, 48, 64]; // tokens along a side
const legend_words = (scene: Scene): string => ({
  this: "attention, colour by √p", other: "attention, colour by √p", difference: "by √|Δ|; ends: largest of all heads", no_sink: "without token 0, rows again 1, by √p",
})[shown_of(scene)];
/** What the ticks of the colour scale say: at even distances of its root. */
const ticks_of = ({ around_zero, most }: Pattern): string[] =>
  around_zero ? [-1, -0.25, 0, 0.25, 1].map((share) => (share ? signed(share, precise(most * Math.abs(share))) : "0")) : ["0", ".06", ".25", ".56", "1"];
const least_pitch = 14; // px between leaning names, whose lines are then 11.6 px apart
const index_width = (n_tokens: number) => 10 + 7.5 * String(n_tokens - 1).length;

function layout(scene: Scene, width: number): Square {
  const { place, corner, measure, theme } = scene, tokens = named_tokens(scene), n = Math.min(place.window, tokens.length), n_tokens = tokens.length;
  const shown = [...tokens.slice(corner.query, corner.query + n), ...tokens.slice(corner.key, corner.key + n)];
  // The room for labels is that of the widest token of the whole text, so that a moved window keeps its cells.
  const widest = Math.max(...(n_tokens > 600 ? shown : tokens).map((token) => measure(token.slice(0, 24), font(theme, mono))), 8);
  const windowed = n < n_tokens, bars = windowed ? 30 : 0;
  const x = Math.ceil(Math.max(measure(query_axis, font(theme, { weight: 500 })) + 12, Math.min(96, widest) + index_width(n_tokens) + 12));
  const over = widest < 14 ? 0 : Math.max(0, 0.56 * Math.min(84, measure(shown.at(-1)!.slice(0, 24), font(theme, mono))) - 8); // the last name leans out
  const cell = Math.max(6, Math.min(n <= 12 ? 48 : windowed ? 22 : 34, Math.floor((width - x - Math.max(bars, over)) / n)));
  const flat = widest <= cell - 2, tall = flat ? 22 : Math.min(84, widest) * 0.83 + 14;
  const map = windowed && width >= 460 ? { x: 0, y: 4, w: 144, h: 144 } : null;
  const y = Math.round(22 + tall + (map ? map.h + 20 : 0)), bottom = y + n * cell;
  const callout = place_callout(width, x, y, cell, n, map);
  const below = callout.y > bottom ? callout.y + callout.h : bottom + sums_height, words = measure(legend_words(scene), font(theme)) + 24;
  const legend = map ? place_legend(width, map.w + 32, 122, words) : place_legend(width, x, below + 16, words + 90);
  return { width, height: map ? bottom + sums_height + 16 : below + (legend.stacked ? 66 : 48), x, y, cell, n, ...corner, n_tokens, tall: flat ? 0 : tall, callout,
           inside: !map && callout.y < bottom, map, legend, bars, sums: null };
}

/** What each shown key receives from all queries; null where not all rows are here. */
function column_sums(scene: Scene, first: number, n: number): Float64Array | null {
  const { look, tokens } = scene, pattern = shown_pattern(scene), sums = new Float64Array(n);
  for (let i = 0; i < n; i++)
    for (let query = first + i; query < tokens.length; query++) sums[i]! += pattern.weight(look.layer, look.head, query, first + i);
  return sums.every(Number.isFinite) ? sums : null;
}

const row_sum = (scene: Scene): number => {
  let sum = 0;
  for (let key = 0; key <= scene.look.query; key++) sum += shown_pattern(scene).weight(scene.look.layer, scene.look.head, scene.look.query, key);
  return sum;
};

/** The bar with its words beside it, or below it where they would not fit; `words` is their room. */
function place_legend(width: number, x: number, y: number, words: number): Legend {
  const stacked = width - x - words < 120;
  return { x, y, w: Math.min(240, stacked ? width - x - 24 : width - x - words), stacked };
}

/** Inside the masked triangle where it fits, at the right edge of the panel; else below. */
function place_callout(width: number, x: number, y: number, cell: number, n: number, map: Box | null): Box {
  if (map) return { x: map.w + 32, y: 4, w: width - map.w - 32, h: 108 };
  for (const [w, h] of [[304, 150], [264, 170], [232, 190]] as const)
    if (x + Math.ceil((h + 8) / cell) * cell + 12 <= width - w && h < n * cell) return { x: width - w - 0.5, y: y + 0.5, w, h };
  return { x: 0.5, y: y + n * cell + sums_height + 16.5, w: width - 1, h: width < 480 ? 128 : 108 };
}

const at_cell = (square: Square, query: number, key: number): [number, number] =>
  [square.x + (key - square.key) * square.cell, square.y + (query - square.query) * square.cell];
const within = (first: number, n: number, at: number) => at >= first && at < first + n;

function draw(ctx: CanvasRenderingContext2D, square: Square, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { x, y, cell, n } = square;
  pen.hatch((c) => c.rect(x, y, n * cell - 1, n * cell - 1), x, y, n * cell, n * cell);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) if (square.key + j <= square.query + i) draw_cell(pen, square, scene, square.query + i, square.key + j);
  name_mask(pen, square);
  draw_legend(pen, square, scene);
  if (square.map) draw_map(pen, square, scene);
  if (square.bars) draw_outside(pen, square, scene);
  draw_sums(pen, square, scene);
}

/** Below the cells: what each key receives from all queries, on the scale of the largest one shown; of a change, more is up. */
function draw_sums(pen: Pen, square: Square, scene: Scene): void {
  const sums = (square.sums = column_sums(scene, square.key, square.n)), { x, y, cell, n } = square, top = y + n * cell + 6, tall = 22, { theme } = scene, around = shown_pattern(scene).around_zero;
  if (!sums) return pen.text("column sums need all rows of the head", x, top + 14, { colour: theme.ink_3 });
  const most = Math.max(...sums.map(Math.abs)) || 1, zero = around ? top + tall / 2 : top;
  sums.forEach((sum, i) => {
    const long = ((around ? tall / 2 : tall) * Math.abs(sum)) / most;
    pen.fill(x + i * cell, around && sum > 0 ? zero - long : zero, Math.max(1, cell - 1), Math.max(1, long), around ? theme.diverging.css[sum < 0 ? 40 : 216]! : theme.ink_3);
  });
  pen.line(x, zero - 0.5, x + n * cell - 1, zero - 0.5, theme.rule_2);
}

/** Where a note of a width and height has room in the hatch beside the callout: its right end and its middle; null where it has none. */
export function mask_note({ x, y, cell, n, callout, inside }: Pick<Square, "x" | "y" | "cell" | "n" | "callout" | "inside">, w: number, h: number): { end: number; middle: number } | null {
  const far = x + n * cell - 4, below = callout.y + callout.h, half = h / 2;
  const found = Array.from({ length: n - 1 }, (_, i) => {
    const middle = y + (i + 1) * cell, beside = inside && middle + half > callout.y - 6 && middle - half < below + 6; // between two rows: the elbow follows a row's middle
    const end = !inside ? far : Math.min(far, beside ? callout.x - 8 : callout.x + callout.w * 0.72 - 8); // below the callout the elbow passes at 0.72
    return { end, middle, room: end - (x + Math.ceil((middle + half - y) / cell) * cell), low: inside && middle > below };
  }).filter(({ room }) => room >= w + 4);
  return found.find(({ low }) => low) ?? found[0] ?? null;
}

/** "masked: later tokens" in the hatch, on one line or two; where it has no room the legend says it. */
function name_mask(pen: Pen, square: Square): void {
  if (square.map || square.key !== square.query) return;
  for (const lines of [["masked: later tokens"], ["masked:", "later tokens"]]) {
    const w = Math.max(...lines.map((one) => pen.width(one))) + 12, h = 4 + 16 * lines.length, at = mask_note(square, w, h);
    if (!at) continue;
    pen.fill(at.end - w, at.middle - h / 2, w, h, pen.theme.paper, 4);
    return lines.forEach((one, i) => pen.text(one, at.end - 6, at.middle - h / 2 + 14 + 16 * i, { align: "right" }));
  }
}

function draw_cell(pen: Pen, square: Square, scene: Scene, query: number, key: number): void {
  const { look, theme } = scene, pattern = shown_pattern(scene), [x, y] = at_cell(square, query, key), size = square.cell - 1;
  if (pattern.removed(look.layer, look.head, query, key)) return;
  const here = pattern.has(look.layer, look.head, query), scale = pattern.around_zero ? theme.diverging : theme.sequential;
  const p = pattern.weight(look.layer, look.head, query, key), byte = pattern.byte(look.layer, look.head, query, key);
  pen.fill(x, y, size, size, theme.paper); // the hatch must not show at the rounded corners
  if (here && !Number.isFinite(p)) return pen.strange(p, x, y, size);
  if (!here) pen.ctx.globalAlpha = 0.55; // the tile's colour, pale, until the row is here
  pen.fill(x, y, size, size, scale.css[byte]!, square.cell > 10 ? 2 : 0);
  pen.ctx.globalAlpha = 1;
  const around = pattern.around_zero, size_words = short(Math.abs(p));
  if (square.cell >= (around ? 30 : 24) && Math.abs(p) >= (around ? Math.max(0.005, 0.195 * pattern.most) : 0.395)) {
    const ink = { align: "center", weight: 500, colour: scale.ink[byte]! } as const;
    pen.text(around ? signed(p, size_words) : size_words, x + size / 2, y + size / 2 + 4.5, ink);
  }
}

function draw_legend(pen: Pen, square: Square, scene: Scene): void {
  const { x, y, w, stacked } = square.legend, words = legend_words(scene), pattern = shown_pattern(scene);
  pen.legend(x, y, w, pattern.around_zero ? scene.theme.diverging : scene.theme.sequential, ticks_of(pattern));
  const left = stacked ? x : x + w + 16, line = stacked ? y + 42 : y + 9;
  pen.text(words, left, line);
  if (!square.map) swatch(pen, left + pen.width(words) + 28, line - 11);
  if (square.map) pen.text("grey bars: share outside this window", square.width, square.y - square.tall - 26, { align: "right" });
}

function swatch(pen: Pen, x: number, y: number): void {
  pen.hatch((c) => c.rect(x, y, 14, 14), x, y, 14, 14, 4, pen.theme.rule_2);
  pen.stroke(x + 0.5, y + 0.5, 13, 13, pen.theme.rule_2);
  pen.text("masked", x + 20, y + 11);
}

function draw_map(pen: Pen, square: Square, scene: Scene): void {
  const { ctx, theme } = pen, map = square.map!, scale = ctx.getTransform().a, size = Math.round(map.w * scale);
  const pattern = shown_pattern(scene), { rgba } = pattern.around_zero ? theme.diverging : theme.sequential;
  const bytes = pattern.tile(scene.look.layer, scene.look.head, size), image = new ImageData(size, size);
  const colours = new Uint32Array(image.data.buffer);
  for (let row = 0; row < size; row++)
    for (let column = 0; column <= row; column++) colours[row * size + column] = rgba[bytes[row * size + column]!]!;
  ctx.putImageData(image, Math.round(map.x * scale), Math.round(map.y * scale));
  pen.line(map.x + 0.5, map.y, map.x + 0.5, map.y + map.h, theme.rule_2);
  pen.line(map.x, map.y + map.h + 0.5, map.x + map.w, map.y + map.h + 0.5, theme.rule_2);
}

/** Grey bars: what each shown query gives to keys outside the window. */
function draw_outside(pen: Pen, square: Square, scene: Scene): void {
  const { look } = scene, pattern = shown_pattern(scene), x = square.x + square.n * square.cell + 6, tall = Math.max(2, square.cell - 7), drop = (square.cell - tall) / 2;
  for (let i = 0; i < square.n; i++) {
    const query = square.query + i;
    if (!pattern.has(look.layer, look.head, query)) continue;
    let inside = 0, all = 0;
    for (let key = 0; key <= query; key++) {
      const p = Math.abs(pattern.weight(look.layer, look.head, query, key)) || 0;
      all += p;
      if (within(square.key, square.n, key)) inside += p;
    }
    const share = all > 0 ? 1 - inside / all : 0;
    pen.fill(x, square.y + i * square.cell + drop, 22, tall, scene.theme.sunk);
    pen.fill(x, square.y + i * square.cell + drop, 22 * share, tall, scene.theme.ink_3);
  }
}

function mark(ctx: CanvasRenderingContext2D, square: Square, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, look } = scene;
  draw_names(pen, square, scene);
  mark_sums(pen, square, scene);
  const row = within(square.query, square.n, look.query), column = within(square.key, square.n, look.key), far = square.n * square.cell;
  const [x, y] = at_cell(square, look.query, look.key), cell = square.cell;
  if (column) {
    const top = look.key > square.query ? at_cell(square, look.key, look.key)[1] : square.y;
    if (top < square.y + far) pen.stroke(x - 1, top - 1, cell + 1, square.y + far - top + 1, theme.ink, 1, 3, [3, 3]);
  }
  const end = Math.min(square.n, look.query - square.key + 1);
  if (row && end > 0) pen.stroke(square.x - 1.5, y - 1.5, end * cell + 2, cell + 2, theme.accent, 1.5, 3);
  if (row && column && look.key <= look.query) mark_cell(pen, x, y, cell, scene);
  if (square.map) {
    const map = square.map, unit = map.w / square.n_tokens;
    pen.stroke(map.x + square.key * unit, map.y + square.query * unit, square.n * unit, square.n * unit, theme.accent, 2, 3);
    if ((square.key + square.n) * unit > map.w - 52 && square.query * unit < 36) return draw_callout(pen, square, scene); // no room for words
    pen.text("whole", map.x + map.w, map.y + 12, { align: "right" });
    pen.text("pattern", map.x + map.w, map.y + 28, { align: "right" });
  }
  draw_callout(pen, square, scene);
}

/** The sums of the looked-at row and column in numbers. */
function mark_sums(pen: Pen, square: Square, scene: Scene): void {
  const { x, y, cell, n, sums, key } = square, { look, theme } = scene, top = y + n * cell + 6, column = within(key, n, look.key);
  pen.text(n < square.n_tokens ? "sum, all queries" : "sum over queries", x - 8, top + 10, { align: "right", colour: theme.ink_3 });
  if (!sums) return;
  const { around_zero } = shown_pattern(scene), written = (sum: number, digits: number) => (around_zero ? signed_fixed : fixed)(sum, digits);
  pen.text(`row sum ${written(row_sum(scene), 3)}`, x - 8, top + 26, { align: "right", colour: theme.ink_3 });
  if (!column) return;
  const middle = x + (look.key - key + 0.5) * cell, words = written(sums[look.key - key]!, 2), half = pen.width(words, { weight: 600 }) / 2 + 3;
  const at = Math.max(x + half, Math.min(square.width - half, middle));
  pen.text(words, at, top + 36, { align: "center", weight: 600, colour: theme.ink });
}

function mark_cell(pen: Pen, x: number, y: number, cell: number, scene: Scene): void {
  const { theme, selection, look } = scene;
  const locked = selection.query === look.query && selection.key === look.key;
  pen.stroke(x - 1.5, y - 1.5, cell + 2, cell + 2, theme.paper, cell > 12 ? 5 : 3, 4);
  pen.stroke(x - 1.5, y - 1.5, cell + 2, cell + 2, locked ? theme.accent : theme.ink, locked ? (cell > 12 ? 3 : 2) : 1.5, 4);
}

function draw_names(pen: Pen, square: Square, scene: Scene): void {
  const { theme, look, measure } = scene, tokens = named_tokens(scene), { x, y, cell, n } = square, right = index_width(square.n_tokens);
  const named = (at: number, lit: number, every: number) => at === lit || (at % every === 0 && Math.abs(at - lit) >= every);
  const searched = new Set(found({ tokens: scene.tokens, options: scene.options_of("ruler") }));
  const every_query = Math.ceil(13 / cell), every_key = Math.ceil((square.tall ? least_pitch : 13) / cell);
  pen.text(key_axis, x, y - square.tall - (square.tall ? 6 : 26), { weight: 500, colour: theme.ink });
  pen.text(query_axis, x - 8, y - 9, { align: "right", weight: 500, colour: theme.ink });
  for (let i = 0; i < n; i++) {
    const query = square.query + i, lit = query === look.query;
    if (searched.has(query)) pen.fill(x - 3.5, y + i * cell, 2.5, cell - 1, theme.ink);
    if (!named(query, look.query, every_query)) { pen.line(x - 7, y + (i + 0.5) * cell - 0.5, x - 3, y + (i + 0.5) * cell - 0.5, theme.rule_2); continue; }
    const at = y + i * cell + cell / 2 + 4;
    const ink = { mono: true, align: "right", colour: lit ? theme.accent : searched.has(query) ? theme.ink : theme.ink_2, weight: lit || searched.has(query) ? 700 : 400 } as const;
    pen.text(String(query), x - 8, at, { ...ink, mono: false });
    pen.text(ellipsis(tokens[query]!, x - 12 - right, font(theme, ink), measure), x - 4 - right, at, ink);
  }
  for (let j = 0; j < n; j++) {
    const middle = x + (j + 0.5) * cell;
    if (searched.has(square.key + j)) pen.fill(x + j * cell, y - 3.5, cell - 1, 2.5, theme.ink);
    if (named(square.key + j, look.key, every_key)) draw_key_name(pen, square, scene, tokens[square.key + j]!, middle, square.key + j === look.key || searched.has(square.key + j));
    else pen.line(middle - 0.5, y - 7, middle - 0.5, y - 3, theme.rule_2); // no room for the name: a tick keeps its place
  }
}

function draw_key_name(pen: Pen, square: Square, { theme, measure }: Scene, name: string, x: number, lit: boolean): void {
  const { ctx } = pen;
  const ink = { mono: true, colour: lit ? theme.ink : theme.ink_2, weight: lit ? 700 : 400 } as const;
  if (!square.tall) return pen.text(name, x, square.y - 8, { ...ink, align: "center" });
  ctx.save(); ctx.translate(x + 1, square.y - 7); ctx.rotate((-56 * Math.PI) / 180);
  pen.text(ellipsis(name, (square.tall - 14) / 0.83 + 1, font(theme, ink), measure), 0, 3, ink);
  ctx.restore();
}

/** The share of a row in words that stay true to a byte's rounding. */
function share(p: number): string {
  if (!Number.isFinite(p)) return fixed(p, 0);
  return p < 0.0005 ? "less than 0.1 %" : `${p < 0.0995 ? (100 * p).toFixed(1) : Math.round(100 * p)} %`;
}

export function sentence(scene: Scene): string {
  const { look } = scene, tokens = named_tokens(scene), pattern = shown_pattern(scene), shown = shown_of(scene), from = quoted(tokens[look.query] ?? ""), to = quoted(tokens[look.key] ?? "");
  if (look.key > look.query) return `${to} comes after ${from}: a query reads only itself and what stands before it.`;
  if (!pattern.has(look.layer, look.head, look.query)) return `The weights of ${head_name(look.layer, look.head)}: ${scene.detail_words}.`;
  if (pattern.removed(look.layer, look.head, look.query, look.key)) return `The first token is taken out, or holds nearly all of the attention at ${from}.`;
  const p = pattern.weight(look.layer, look.head, look.query, look.key);
  if (!Number.isFinite(p)) return `At ${from} this head's attention on ${to} is not a finite number: the model's softmax failed here.`;
  const which = relation(tokens, look.query, look.key);
  if (shown === "difference") {
    const own = scene.pattern!.weight(look.layer, look.head, look.query, look.key), [before, after] = scene.view.content?.since === undefined ? [own, own + p] : [own - p, own];
    const change = share(before) === share(after) ? `stays at ${share(after)}` : `goes from ${share(before)} to ${share(after)}`;
    return `At ${from} this head's attention on ${to} ${change}: ${which}.`;
  }
  return `At ${from} this head puts ${share(p)} of its attention ${shown === "no_sink" ? "beside the first token " : ""}on ${to}: ${which}.`;
}

function draw_callout(pen: Pen, square: Square, scene: Scene): void {
  const { theme, look, measure } = scene, { x, y, w, h } = square.callout, pattern = shown_pattern(scene);
  const masked = look.key > look.query || pattern.removed(look.layer, look.head, look.query, look.key);
  if (square.inside) elbow(pen, square, scene);
  pen.fill(x, y, w, h, theme.paper, 8);
  pen.stroke(x, y, w, h, theme.rule_2, 1, 8);
  pen.fill(x - 0.5, y + 16, 3, h - 32, theme.accent);
  const waiting = !masked && !pattern.has(look.layer, look.head, look.query), p = masked ? 0 : pattern.weight(look.layer, look.head, look.query, look.key);
  const number = masked ? (look.key > look.query ? "masked" : "removed") : waiting ? "…" : (pattern.around_zero ? signed_fixed : fixed)(p, 4);
  pen.text(number, x + 16, y + 33, { size: 24, weight: 600, colour: theme.ink });
  const meta = { align: "right", colour: theme.ink_2 } as const, wide = w > 380;
  const pair = `query ${whole(look.query)} → key ${whole(look.key)}`, rounding = waiting ? 0 : pattern.rounding(look.layer, look.head, look.query, look.key);
  const doubt = masked || !rounding ? "" : `± ${fixed(rounding, 4)} at most: √p was rounded to 1/255`;
  const room = w - 42 - pen.width(number, { size: 24, weight: 600 }), both = wide && doubt ? `${pair} · ${doubt}` : pair;
  const right = [both, pair].find((words) => pen.width(words) <= room) ?? "";
  if (right) pen.text(right, x + w - 14, y + 23, meta);
  const below = [right ? "" : pair, right.endsWith(doubt) ? "" : doubt].filter(Boolean); // the number
  const notes = below.flatMap((note) => wrap(note, w - 32, font(theme), measure)), under = 16 * notes.length;
  notes.forEach((note, i) => pen.text(note, x + 16, y + 52 + 16 * i, { colour: theme.ink_3 }));
  const lines = wrap(sentence(scene), w - 32, font(theme, { size: 13 }), measure), most = Math.floor((h - 48 - under) / 20);
  lines.slice(0, most).forEach((line, i) => pen.text(line, x + 16, y + 62 + under + 20 * i, { size: 13, colour: theme.ink }));
}

function elbow(pen: Pen, square: Square, scene: Scene): void {
  const { theme, look } = scene, { x, y, w, h } = square.callout, row = at_cell(square, look.query, 0)[1] + square.cell / 2 - 0.5;
  const end = square.x + (look.query + 1) * square.cell + 2, turn = Math.round(Math.max(x + w * 0.72, Math.min(end + 12, x + w - 16))) + 0.5;
  if (row > y + h && end > turn) { // the row ends right of the callout: straight down to its outline
    pen.path([[turn, row - square.cell / 2], [turn, y + h]], theme.accent, 1.5);
    return pen.dot(turn, row - square.cell / 2 - 1, 3, theme.accent);
  }
  if (row > y + h) pen.path([[end, row], [turn, row], [turn, y + h]], theme.accent, 1.5);
  else pen.path([[end, row], [x, row]], theme.accent, 1.5);
  pen.dot(end, row, 3, theme.accent);
}

function hit(square: Square, x: number, y: number, scene: Scene): Hit | null {
  const { layer, head } = scene.look, map = square.map;
  if (map && x <= map.w + 4 && y <= map.h + 8) {
    const query = Math.round((y / map.h) * square.n_tokens - square.n / 2), key = Math.round((x / map.w) * square.n_tokens - square.n / 2);
    return { at: {}, window: { query, key }, drag: "map" };
  }
  const column = Math.floor((x - square.x) / square.cell), row = Math.floor((y - square.y) / square.cell);
  const key = square.key + column, query = square.query + row;
  const on_row = row >= 0 && row < square.n, on_column = column >= 0 && column < square.n;
  if (on_row && on_column) return key <= query ? { at: { layer, head, query, key } } : null;
  if (on_row && x < square.x && x > 0) return { at: { query } };
  if (on_column && y < square.y && y > square.y - 26) return { at: { key } };
  return null;
}

function drag(square: Square, _: Hit, x: number, y: number, scene: Scene): Patch {
  const clamped = hit(square, Math.min(square.map!.w, Math.max(0, x)), Math.min(square.map!.h, Math.max(0, y)), scene);
  return { window: clamped?.window };
}

function press(key: string, scene: Scene): Patch | null {
  const { look, tokens, place } = scene;
  if (key === "m") return mute(scene);
  const zoom = key === "-" ? windows.find((one) => one > place.window) : key === "+" || key === "=" ? windows.filter((one) => one < place.window).at(-1) : 0;
  if (zoom) return { options: { window: Math.min(zoom, tokens.length) } };
  const last = tokens.length - 1;
  const to: Record<string, [number, number]> = {
    ArrowUp: [look.query - 1, look.key], ArrowDown: [look.query + 1, look.key], ArrowLeft: [look.query, look.key - 1],
    ArrowRight: [look.query, look.key + 1], Home: [look.query, 0], End: [look.query, look.query],
  };
  if (!to[key]) return null;
  const query = Math.max(0, Math.min(last, to[key]![0]));
  return { selection: { layer: look.layer, head: look.head, query, key: Math.max(0, Math.min(query, to[key]![1])) } };
}

function controls(scene: Scene): Control[] {
  const { view, tokens, pattern } = scene, [first, second] = names_of(view), n = tokens.length;
  const sizes = windows.filter((size) => size < n).map((size): [string, string] => [String(size), `${size} tokens`]);
  const compare: Control = { kind: "choice", name: "compare", label: "show", choices: [["this", first], ["other", second], ["difference", "difference"]] };
  const alone = ["this", "no_sink"].includes(shown_of(scene));
  return [
    ...(has_other(view) ? [compare] : []),
    { kind: "toggle", name: "sink", label: "first token", disabled: alone ? undefined : `shown for ${first} only` },
    ...(sizes.length ? [{ kind: "choice", name: "window", label: "window", choices: [["0", pattern && n > 47 ? "fit" : "all"], ...sizes] } as Control] : []),
  ];
}

const head: Panel<Square> = {
  kind: "attention", name: "head", options: { sink: true, compare: "this", window: 0 }, controls,
  slot: () => "right",
  heading(scene) {
    const { selection, look, place, tokens, view } = scene, shown = shown_of(scene), at = look.layer * scene.pattern!.n_head + look.head, score = score_of(scene, at);
    const locked = selection.layer === look.layer && selection.head === look.head;
    const bars = place.window < tokens.length && place.widths.right < 460 ? " · grey bars: share outside the window" : "";
    const [first, second] = names_of(view), of = (name: string) => (has_other(view) ? ` of ${name}` : "");
    const what = { this: `pattern${of(first)}`, no_sink: `without the first token${of(first)}`, other: `pattern${of(second)}`, difference: `difference: ${minus_words(view)}` }[shown];
    return { title: head_name(look.layer, look.head), subtitle: `${what}${score ? ` · ${score.words} ${fixed(score.value[at]!, 2)} vs null ${fixed(score.high[at]!, 2)}` : ""} · ${locked ? "locked" : "click a head to lock it"}${bars}`,
             keys: [["head", ["[", "]"]], ["unlock", ["Esc"]]] };
  },
  layout, draw, mark, hit, drag, press,
  stale: ({ look, corner }) => `${look.layer} ${look.head} ${corner.query} ${corner.key}`,
  says: (scene) => `${head_name(scene.look.layer, scene.look.head)}. ${sentence(scene)}`,
};

export const panels: Panel[] = [head];
