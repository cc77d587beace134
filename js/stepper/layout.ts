// The tensors of a stage at their real shapes: which plates there are, where they lie, and where the mouse is on them.
import { around, type Scale } from "../colour.ts";
import { font } from "../paint.ts";
import type { Measure } from "../text.ts";
import type { Theme } from "../theme.ts";
import type { Matrix, Pass, Stage } from "./pass.ts";
import { shown_tensors, type Shown, type Walk } from "./walk.ts";

export interface Colours { scale: Scale; at: (value: number) => number; words: string }
export interface Plate {
  name: string; layer: number | null; caption: string; own: boolean; // own: of the first pass; else the second's, or the difference
  axes: string[]; tokens: string[]; rows: string; columns: string; n_rows: number; n_columns: number; of: string; cells: Matrix; colours: Colours | null; // null: ids; of: the size of a vocabulary of which a part is here
  turned: boolean; named: boolean; // turned: columns down, as k' in q k'; named: tokens stand above it
  x: number; y: number; w: number; h: number;
}
export interface Sign { text: string; words: string; x: number; y: number }
export interface Layout { width: number; height: number; plates: Plate[]; names: number; label: number; signs: Sign[]; gone: Shown[]; queries: boolean } // queries: whether the rows are those of a product
export interface Cell { plate: Plate; row: number; column: number }

export const axis_words: Record<string, string> = { pos: "position ↓", query: "query (attends) ↓", key: "key (attended to) →", d_vocab: "token →", one: "" };

/** The words along the columns of a plate, if they are tokens. */
export function column_tokens(pass: Pass, plate: Plate): string[] | null {
  return plate.turned || plate.columns === "key" ? plate.tokens : plate.columns === "d_vocab" ? pass.columns : null;
}

export function colours_of(pass: Pass, name: string, theme: Theme): Colours | null {
  const kind = pass.content.tensors[name]?.colour ?? "signed", [low, high] = pass.view.range[name] ?? [-1, 1];
  if (kind === "id") return null;
  if (kind === "share") return { scale: theme.sequential, at: (p) => Math.round(255 * Math.sqrt(Math.min(1, Math.max(0, p)))), words: "0 to 1" };
  if (kind === "size") return { scale: theme.sequential, at: (x) => Math.round(255 * Math.min(1, Math.max(0, x / (high || 1)))), words: `0 to ${high.toPrecision(3)}` };
  return diverging(theme, Math.max(-low, high));
}

const diverging = (theme: Theme, top: number): Colours => ({ scale: theme.diverging, at: (x) => around(x, top || 1), words: `±${top.toPrecision(3)}` });

function plate_of(pass: Pass, { name, layer }: Shown, head: number, theme: Theme): Plate {
  const axes = pass.axes(name), two = axes.filter((axis) => axis !== "head"), cells = pass.matrix(name, layer, head)!;
  const of = two[1] === "d_vocab" && !pass.content.columns_all ? ` of ${pass.content.config.vocab_size}` : "";
  return { name, layer, of, caption: `${name}${layer === null ? "" : ` L${layer}`}`, own: true, axes, tokens: pass.tokens, rows: two[0]!, columns: two[1] ?? "one", n_rows: cells.n_rows, n_columns: cells.n_columns,
           cells, colours: colours_of(pass, name, theme), turned: false, named: true, x: 0, y: 0, w: 0, h: 0 };
}

const signs: Record<string, string[]> = { sum: ["", "+", "="], mask: ["", "+", "="], mix: ["", "·", "="], carry: ["", "+", "="] };
const sign_words: Record<string, string> = { softmax: "softmax", norm: "divide", gelu: "GELU", linear: "· weight", lookup: "row of", lens: "unembed", loss: "−log p" };

/** The pieces of a stage's drawing that are here, and the names of those that are not. */
function gather(walk: Walk, theme: Theme): { plates: Plate[]; gone: Shown[]; rule: string } {
  const { pass, now, place } = walk, shown = attention_inputs(now).concat(shown_tensors(pass, now, place.layer)).map((one) => ({ ...one, layer: one.layer === -1 ? place.layer : one.layer }));
  const [here, gone] = [true, false].map((wanted) => shown.filter((one) => pass.holds(one.name, one.layer) === wanted)) as [Shown[], Shown[]];
  const plates = here.map((one) => plate_of(pass, one, place.head, theme)), rule = pass.content.tensors[now.tensors.at(-1)!]?.rule ?? "";
  if (now.id === "mask" && plates.length === 4) plates.splice(3, 0, mask_plate(plates[2]!));
  return { plates, gone, rule };
}

/** Mask and softmax are drawn as the product that they continue. */
const attention_inputs = (stage: Stage): Shown[] => (stage.id === "mask" || stage.id === "pattern" ? [{ name: "q", layer: -1 }, { name: "k", layer: -1 }] : []);

function mask_plate(like: Plate): Plate {
  const n = like.n_rows, values = Float32Array.from({ length: n * n }, (_, i) => (i % n > Math.floor(i / n) ? -Infinity : 0));
  return { ...like, name: "mask", layer: null, caption: "mask", cells: { values, offset: 0, n_rows: n, n_columns: n }, colours: { ...like.colours!, words: "0 or −∞" }, named: false };
}

/** Geometry for a width: the plates side by side; q left and k' above their product; a second pass below. */
export function lay_out(walk: Walk, width: number, measure: Measure, theme: Theme): Layout {
  const { plates, gone, rule } = gather(walk, theme), { pass } = walk, names = name_width(pass, measure, theme), product = plates.length >= 3 && plates[0]!.name === "q" && plates[1]!.name === "k";
  const layout: Layout = { width, height: 0, plates, names, label: 0, signs: [], gone, queries: product };
  if (!plates.length) return layout;
  layout.label = 16;
  if (product) lay_product(layout, walk.now.id);
  else lay_row(layout, rule, measure, theme, walk.now.tensors);
  if (!words_fit(pass, plates, measure, theme)) { // turned words need room above
    layout.label = 52;
    if (product) lay_product(layout, walk.now.id);
    else lay_row(layout, rule, measure, theme, walk.now.tensors);
  }
  if (walk.passes.length > 1) lay_second(layout, walk, theme);
  return layout;
}

function words_fit(pass: Pass, plates: Plate[], measure: Measure, theme: Theme): boolean {
  return plates.every((plate) => {
    const words = plate.named ? column_tokens(pass, plate) : null, { cw } = cell_size(plate);
    return !words || cw < 9 || words.every((word) => measure(word.slice(0, 20), font(theme, { mono: true })) <= cw - 1);
  });
}

const below = 44; // name, shape and range under a plate
const head_room = (layout: Layout): number => layout.label + 24;

function lay_row(layout: Layout, rule: string, measure: Measure, theme: Theme, made: string[]): void {
  const { plates, names, width } = layout, n_rows = Math.max(...plates.map((one) => one.n_rows)), least_pitch = plates.some((one) => !one.colours) && n_rows <= 64 ? 16 : 0.6, pitch = Math.min(44, Math.max(least_pitch, 340 / n_rows)), top = head_room(layout);
  const sign = (one: Plate, i: number) => (!i ? "" : (plates.length === 2 ? undefined : signs[rule]?.[i]) ?? (made.indexOf(one.name) <= 0 && made.includes(one.name) ? "→" : ""));
  const gaps = plates.map((one, i): number => (!i ? 0 : sign(one, i) === "→" ? Math.max(44, measure(sign_words[rule] ?? "", font(theme, { weight: 600 })) + 20) : sign(one, i) ? 44 : 16)), room = width - names - 8 - gaps.reduce((a, b) => a + b, 0);
  const under = (one: Plate) => Math.max(one.n_columns === 1 ? 0 : 72, measure(`${one.n_rows}${one.n_columns === 1 ? "" : `×${one.n_columns}${one.of}`} · ${one.colours?.words ?? "ids"}`, font(theme))); // what is written below it
  const least = plates.map((one) => Math.max(under(one), measure(one.caption, font(theme, { mono: true, weight: 600 }))) + 2);
  const wish = plates.map((one, i) => Math.max(least[i]!, wanted(one, pitch))), slots = shared(wish, least.map((one) => Math.min(one, room / plates.length)), room);
  let x = names + 8;
  layout.signs = [];
  plates.forEach((one, i) => {
    const mark = sign(one, i);
    if (mark) layout.signs.push({ text: mark, words: mark === "→" ? sign_words[rule] ?? "" : "", x: x + gaps[i]! / 2 - 2, y: top + (n_rows * pitch) / 2 + 5 });
    x += gaps[i]!;
    const w = Math.floor(Math.min(wanted(one, pitch), slots[i]!));
    Object.assign(one, { x: Math.round(x), y: top, w, h: one.n_rows * pitch });
    x += slots[i]!;
  });
  layout.height = top + n_rows * pitch + below + 46;
}

/** Widths for wishes: each its least, and of what is left in proportion to what it lacks. */
function shared(wish: number[], least: number[], room: number): number[] {
  const sum = (all: number[]) => all.reduce((a, b) => a + b, 0), total = sum(wish);
  if (total <= room) return wish;
  const spare = Math.max(0, room - sum(least)), lacking = total - sum(least);
  return wish.map((one, i) => least[i]! + (lacking > 0 ? (spare * (one - least[i]!)) / lacking : 0));
}

function wanted(plate: Plate, pitch: number): number {
  if (plate.n_columns === 1) return Math.max(pitch, 56);
  const square = plate.columns === "key" || (plate.columns === "d_vocab" && plate.n_columns <= 12);
  return plate.n_columns * (square ? Math.max(pitch, 1) : Math.max(2, Math.min(pitch, 14)));
}

function name_width(pass: Pass, measure: Measure, theme: Theme): number {
  const widest = Math.max(...pass.tokens.slice(0, 600).map((one) => measure(one.slice(0, 16), font(theme, { mono: true }))));
  return Math.min(132, Math.max(measure(axis_words.query!, font(theme)) + 4, 30 + widest));
}

const least_side = 150; // pixels of a square, below which the squares stand in two rows

/** q at the left, k' above, the scores where they meet; then what is made of them. */
function lay_product(layout: Layout, stage: string): void {
  const { plates, width, names } = layout, [q, k, scores, ...then] = plates as [Plate, Plate, Plate, ...Plate[]], n = scores.n_rows;
  const deep = Math.min(Math.max(96, 5 * q.n_columns), 160, width * 0.17), gap = 28, after = then.length > 1 ? 44 : 72, left = width - names - 8 - deep - gap, x = names + 8;
  const side_of = (squares: number, room: number) => Math.min(44 * n, 340, Math.floor((room - after * (squares - 1)) / squares)), stacked = then.length > 0 && side_of(1 + then.length, left) < least_side, side = side_of(stacked ? 1 : 1 + then.length, left);
  const under = Math.min(side, side_of(then.length, width - x - after)); // of the squares in a second row
  Object.assign(k, { x: x + deep + gap, y: head_room(layout), w: side, h: Math.min(deep, 130), turned: true });
  Object.assign(q, { x, y: k.y + k.h + 40, w: deep, h: side });
  Object.assign(scores, { x: k.x, y: q.y, w: side, h: side, named: false });
  layout.signs = [];
  layout.height = q.y + side + below + 46;
  then.forEach((one, i) => {
    const at = stacked ? { x: x + after + i * (under + after), y: q.y + side + below + head_room(layout) } : { x: k.x + (i + 1) * (side + after), y: q.y }, w = stacked ? under : side;
    Object.assign(one, { ...at, w, h: w, named: one.name !== "mask" });
    layout.height = at.y + w + below + 46;
    const sign_x = stacked && !i ? after / 2 : at.x - after / 2; // left of the tokens' names
    layout.signs.push({ text: one.name === "mask" ? "+" : stage === "mask" ? "=" : "→", words: stage === "pattern" ? "softmax" : "", x: sign_x, y: at.y + w / 2 + 5 });
  });
}

/** The result of the second pass and the difference, under the first. */
function lay_second(layout: Layout, walk: Walk, theme: Theme): void {
  const one = layout.plates.at(-1)!, other = walk.passes[1]!, cells = other.matrix(one.name, one.layer, walk.place.head);
  if (!cells || !one.colours) return;
  const gone = difference(one.cells, cells), y = layout.height - 46 + head_room(layout), step = Math.max(one.w, 120) + 44, x = layout.names + 8, label = other.content.label || "second pass", same = one.tokens.join("\n") === other.tokens.join("\n");
  const two: Plate = { ...one, cells, own: false, tokens: other.tokens, caption: `${one.caption} · ${label}`, x, y }, beside = 2 * step > layout.width - x;
  const minus: Plate = { ...one, cells: gone.cells, own: false, tokens: same ? one.tokens : one.tokens.map((_, i) => String(i)), caption: "second − first", colours: diverging(theme, gone.top), x: beside ? x : x + step, y: beside ? y + one.h + below + head_room(layout) : y };
  layout.plates.push(two, minus);
  layout.height = minus.y + one.h + below + 46;
}

function difference(one: Matrix, other: Matrix): { cells: Matrix; top: number } {
  const n = one.n_rows * one.n_columns, values = new Float32Array(n);
  let top = 0;
  for (let i = 0; i < n; i++) {
    const a = one.values[one.offset + i]!, b = other.values[other.offset + i]!, size = Math.abs((values[i] = a === b ? 0 : b - a));
    if (Number.isFinite(size) && size > top) top = size;
  }
  return { cells: { values, offset: 0, n_rows: one.n_rows, n_columns: one.n_columns }, top };
}

export const drawn = (plate: Plate): { down: number; across: number } => (plate.turned ? { down: plate.n_columns, across: plate.n_rows } : { down: plate.n_rows, across: plate.n_columns });
export const cell_size = (plate: Plate): { cw: number; ch: number } => { const { down, across } = drawn(plate); return { cw: plate.w / across, ch: plate.h / down }; };

/** A number of a plate by its drawn row and column. */
export function plate_value(plate: Plate, row: number, column: number): number {
  const [i, j] = plate.turned ? [column, row] : [row, column];
  return plate.cells.values[plate.cells.offset + i * plate.n_columns + j]!;
}

export function plate_index(plate: Plate, head: number, row: number, column: number): number[] {
  const [i, j] = plate.turned ? [column, row] : [row, column];
  return plate.axes.map((axis, at) => (axis === "head" ? head : at === plate.axes.indexOf(plate.rows) ? i : j));
}

/** The plate and cell under the mouse. */
export function find_cell(layout: Layout, x: number, y: number): Cell | null {
  const plate = layout.plates.find((one) => x >= one.x && x < one.x + one.w && y >= one.y && y < one.y + one.h);
  if (!plate) return null;
  const { cw, ch } = cell_size(plate);
  return { plate, row: Math.floor((y - plate.y) / ch), column: Math.floor((x - plate.x) / cw) };
}
