// The tensors of a stage, drawn at their real shapes, and where the mouse is on them.
import type { Scale } from "../colour.ts";
import { Pen } from "../paint.ts";
import type { Theme } from "../theme.ts";
import { ellipsis, type Measure } from "../text.ts";
import { font } from "../paint.ts";
import type { Pass, Stage } from "./pass.ts";
import type { Source } from "./receipt.ts";

/** What is looked at: places along all axes at once; each tensor uses its own. */
export interface Place { layer: number; head: number; pos: number; key: number; column: number }
export interface Plate {
  name: string; layer: number | null; sign: string; turned: boolean; // turned: columns down, as K' in q K'
  rows: string; columns: string; n_rows: number; n_columns: number; x: number; y: number; w: number; h: number;
}
export interface Layout { width: number; height: number; plates: Plate[]; names: number; top: number; signs: [string, number, number][] }

const axis_words: Record<string, string> = { pos: "position ↓", query: "query (attends) ↓", key: "key (attended to) →", d_vocab: "token →", one: "" };
const column_words = (axis: string): string => axis_words[axis] ?? `${axis} →`;

/** The place of a cell of a tensor along its axes, without the layer. */
export function index_of(pass: Pass, name: string, place: Place): number[] {
  const shape = pass.shape(name), by: Record<string, number> = { head: place.head, pos: place.pos, query: place.pos, key: place.key };
  return pass.axes(name).map((axis, i) => Math.min(shape[i]! - 1, by[axis] ?? place.column));
}

/** What a stage shows: where its numbers come from, then what it makes. */
export function shown_tensors(pass: Pass, stage: Stage, layer: number): { name: string; layer: number | null }[] {
  const result = stage.tensors.at(-1);
  if (!result) return [];
  const rule = pass.content.tensors[result]!.rule, first = pass.content.tensors[stage.tensors[0]!]!;
  const sources = rule === "carry" ? (layer ? ["resid_post"] : ["embed", "pos_embed"]) : first.sources.filter((one) => one !== "ids" || stage.id === "embed");
  const at = (name: string, own: boolean) => {
    if (!pass.layered(name)) return null;
    return rule === "carry" && !own ? layer - 1 : stage.in_block || stage.id === "blocks" ? layer : pass.n_layer - 1;
  };
  const own = stage.tensors.map((name) => ({ name, layer: at(name, true) }));
  return [...sources.filter((one) => !stage.tensors.includes(one)).map((name) => ({ name, layer: at(name, false) })), ...own];
}

const signs: Record<string, string[]> = { sum: ["", "+", "="], mask: ["", "+ mask →"], dot: ["", "·", "="], mix: ["", "·", "="], carry: ["", "+", "="] };

/** Geometry for a width: the plates side by side; q left and k' above their product. */
export function lay_out(pass: Pass, stage: Stage, layer: number, width: number, measure: Measure, theme: Theme): Layout {
  const shown = shown_tensors(pass, stage, layer), names = name_width(pass, measure, theme), rule = pass.content.tensors[stage.tensors.at(-1)!]?.rule ?? "";
  const plates: Plate[] = shown.map(({ name, layer: at }, i) => {
    const axes = pass.axes(name).filter((axis) => axis !== "head"), shape = pass.shape(name), n = axes.map((axis) => shape[pass.axes(name).indexOf(axis)]!);
    return { name, layer: at, sign: signs[rule]?.[i] ?? (i && stage.tensors.indexOf(name) <= 0 && stage.tensors.includes(name) ? "→" : ""), turned: false,
             rows: axes[0]!, columns: axes[1] ?? "one", n_rows: n[0]!, n_columns: n[1] ?? 1, x: 0, y: 0, w: 0, h: 0 };
  });
  if (rule === "dot") return product(plates, width, names);
  const n_rows = Math.max(...plates.map((one) => one.n_rows), 1), pitch = Math.min(36, Math.max(0.6, 330 / n_rows)), gaps = 44 * (plates.length - 1) + 8;
  const room = width - names - gaps, wish = plates.map((one) => wanted(one, pitch)), total = wish.reduce((a, b) => a + b, 0);
  const narrow = wish.map((one) => Math.min(one, 72)), spare = Math.max(0, room - narrow.reduce((a, b) => a + b, 0)), more = total - narrow.reduce((a, b) => a + b, 0);
  const top = 64;
  let x = names + 8;
  const marks: [string, number, number][] = [];
  plates.forEach((one, i) => {
    if (i) { marks.push([one.sign, x + 14, top + (n_rows * pitch) / 2 + 5]); x += 44; }
    one.w = total <= room ? wish[i]! : narrow[i]! + (more > 0 ? (spare * (wish[i]! - narrow[i]!)) / more : 0);
    one.w = Math.max(one.n_columns === 1 ? pitch : 24, Math.floor(one.w));
    Object.assign(one, { x, y: top, h: one.n_rows * pitch });
    x += one.w;
  });
  return { width, height: top + n_rows * pitch + 64, plates, names, top, signs: marks };
}

function wanted(plate: Plate, pitch: number): number {
  if (plate.n_columns === 1) return Math.max(pitch, 52);
  const square = plate.columns === "key" || plate.n_columns <= 12;
  return plate.n_columns * (square ? Math.max(pitch, 2) : Math.max(2, Math.min(pitch, 8)));
}

function name_width(pass: Pass, measure: Measure, theme: Theme): number {
  const widest = Math.max(...pass.tokens.slice(0, 600).map((one) => measure(one.slice(0, 16), font(theme, { mono: true }))));
  return Math.min(132, Math.max(measure(axis_words.query!, font(theme)) + 4, 30 + widest));
}

/** q at the left, k' above, the scores where they meet. */
function product(plates: Plate[], width: number, names: number): Layout {
  const [q, k, scores] = plates as [Plate, Plate, Plate], n = scores.n_rows, room = Math.min(340, (width - names - 60) * 0.6);
  const side = Math.min(36 * n, room), deep = Math.min(Math.max(96, 6 * q.n_columns), 170), x = names + 8, top = 8;
  Object.assign(k, { x: x + deep + 28, y: top + 56, w: side, h: deep, turned: true });
  Object.assign(q, { x, y: k.y + deep + 62, w: deep, h: side });
  Object.assign(scores, { x: k.x, y: q.y, w: side, h: side });
  return { width, height: q.y + side + 64, plates, names, top: q.y, signs: [] };
}

export function colour_scale(pass: Pass, name: string, theme: Theme): { scale: Scale; at: (value: number) => number } {
  const kind = pass.content.tensors[name]?.colour ?? "signed", [low, high] = pass.view.range[name] ?? [-1, 1];
  if (kind === "share") return { scale: theme.sequential, at: (p) => Math.round(255 * Math.sqrt(Math.min(1, Math.max(0, p)))) };
  if (kind === "size") return { scale: theme.sequential, at: (x) => Math.round(255 * Math.min(1, Math.max(0, x / (high || 1)))) };
  return { scale: theme.diverging, at: (x) => Math.round(127.5 + 127.5 * Math.min(1, Math.max(-1, x / (Math.max(-low, high) || 1)))) };
}

/** A number of a plate by its drawn row and column. */
export function plate_value(pass: Pass, plate: Plate, place: Place, row: number, column: number): number {
  return pass.value(plate.name, plate.layer, ...plate_index(pass, plate, place, row, column));
}

export function plate_index(pass: Pass, plate: Plate, place: Place, row: number, column: number): number[] {
  const [i, j] = plate.turned ? [column, row] : [row, column], axes = pass.axes(plate.name);
  return axes.map((axis, at) => (axis === "head" ? place.head : at === axes.indexOf(plate.rows) ? i : j));
}

export function draw_plates(ctx: CanvasRenderingContext2D, layout: Layout, pass: Pass, place: Place, theme: Theme, hidden: string | null): void {
  const pen = new Pen(ctx, theme);
  for (const plate of layout.plates) {
    if (plate.name === hidden) { cover(pen, plate); continue; }
    draw_cells(pen, plate, pass, place);
  }
  legend(pen, layout, pass);
  for (const [sign, x, y] of layout.signs) pen.text(sign.length > 2 ? "+" : sign, x, y, { size: 16, weight: 600, colour: theme.ink, align: "center" });
}

/** What is to be predicted: not shown yet. */
function cover(pen: Pen, plate: Plate): void {
  pen.fill(plate.x, plate.y, plate.w, plate.h, pen.theme.sunk, 4);
  pen.stroke(plate.x + 0.5, plate.y + 0.5, plate.w - 1, plate.h - 1, pen.theme.rule_2, 1, 4, [3, 3]);
  pen.text("?", plate.x + plate.w / 2, plate.y + plate.h / 2 + 8, { size: 24, weight: 600, align: "center", colour: pen.theme.ink_3 });
}

function draw_cells(pen: Pen, plate: Plate, pass: Pass, place: Place): void {
  const { theme } = pen, down = plate.turned ? plate.n_columns : plate.n_rows, across = plate.turned ? plate.n_rows : plate.n_columns;
  const cw = plate.w / across, ch = plate.h / down, { scale, at } = colour_scale(pass, plate.name, theme), ids = pass.content.tensors[plate.name]!.colour === "id";
  if (!ids && (cw < 3 || ch < 3)) return draw_image(pen, plate, pass, place, across, down, scale, at);
  const gap = Math.min(cw, ch) >= 8 ? 1 : 0;
  for (let row = 0; row < down; row++)
    for (let column = 0; column < across; column++) {
      const value = plate_value(pass, plate, place, row, column), x = plate.x + column * cw, y = plate.y + row * ch;
      if (ids) { pen.text(String(value), x + cw / 2, y + ch / 2 + 4, { align: "center", mono: true, colour: theme.ink }); continue; }
      if (plate.name === "pattern" && column > row) { strange(pen, -Infinity, x, y, cw - gap, ch - gap); continue; }
      if (!Number.isFinite(value)) { strange(pen, value, x, y, cw - gap, ch - gap); continue; }
      const byte = at(value);
      pen.fill(x, y, cw - gap, ch - gap, scale.css[byte]!, gap && cw > 10 ? 2 : 0);
      if (cw >= 40 && ch >= 16 && across <= 12) pen.text(value.toFixed(2).replace("-", "−"), x + cw / 2, y + ch / 2 + 4, { align: "center", colour: scale.ink[byte]! });
    }
}

function strange(pen: Pen, value: number, x: number, y: number, w: number, h: number): void {
  pen.fill(x, y, w, h, pen.theme.paper);
  if (value === -Infinity) return pen.hatch((c) => c.rect(x, y, w, h), x, y, w, h, 5, pen.theme.rule_2);
  pen.stroke(x + 0.5, y + 0.5, w - 1, h - 1, pen.theme.rule_2);
  if (Math.min(w, h) >= 9) pen.text("×", x + w / 2, y + h / 2 + 4, { align: "center", colour: pen.theme.ink });
}

/** Each pixel the cell of the largest size that it covers. */
function draw_image(pen: Pen, plate: Plate, pass: Pass, place: Place, across: number, down: number, scale: Scale, at: (value: number) => number): void {
  const ratio = pen.ctx.getTransform().a, w = Math.max(1, Math.round(plate.w * ratio)), h = Math.max(1, Math.round(plate.h * ratio));
  const image = new ImageData(w, h), colours = new Uint32Array(image.data.buffer), most = new Float32Array(w * h).fill(-1);
  for (let row = 0; row < down; row++)
    for (let column = 0; column < across; column++) {
      const value = plate_value(pass, plate, place, row, column);
      if (!Number.isFinite(value)) continue;
      const size = Math.abs(value), colour = scale.rgba[at(value)]!;
      const x0 = Math.floor((column * w) / across), x1 = Math.max(x0 + 1, Math.floor(((column + 1) * w) / across)), y0 = Math.floor((row * h) / down), y1 = Math.max(y0 + 1, Math.floor(((row + 1) * h) / down));
      for (let y = y0; y < y1; y++) for (let x = x0; x < x1; x++) if (size > most[y * w + x]!) { most[y * w + x] = size; colours[y * w + x] = colour; }
    }
  pen.ctx.putImageData(image, Math.round(plate.x * ratio), Math.round(plate.y * ratio));
}

/** Names, axes, what is chosen, and the cells that a receipt was computed from. */
export function mark_plates(ctx: CanvasRenderingContext2D, layout: Layout, pass: Pass, place: Place, theme: Theme, measure: Measure, focus: string, sources: Source[], hover: { plate: Plate; row: number; column: number } | null): void {
  const pen = new Pen(ctx, theme);
  for (const plate of layout.plates) {
    title(pen, plate, pass, measure, plate.name === focus);
    const source = sources.find((one) => one.name === plate.name && (one.layer === plate.layer || one.layer === null));
    if (source) outline(pen, plate, pass, source, plate.name === "q" ? "q" : plate.name === "k" ? "k" : "source", theme);
    if (plate.name === focus) chosen(pen, plate, pass, place);
  }
  if (hover) box(pen, hover.plate, hover.row, hover.column, 1, 1, theme.ink, 1, [2, 2]);
  row_names(pen, layout, pass, place, measure);
}

/** Name, layer, shape and range over a plate; below them the axis, then the tokens. */
function title(pen: Pen, plate: Plate, pass: Pass, measure: Measure, lit: boolean): void {
  const { theme } = pen, name = `${plate.name}${plate.turned ? "ᵀ" : ""}${plate.layer === null ? "" : ` L${plate.layer}`}`, strong = { mono: true, weight: 600, colour: lit ? theme.accent : theme.ink } as const;
  const shape = (plate.turned ? [plate.n_columns, plate.n_rows] : [plate.n_rows, plate.n_columns]).filter((n, i) => !(i && n === 1)).join("×"), room = plate.w + 40;
  pen.text(ellipsis(name, room, font(theme, strong), measure), plate.x, plate.y - 42, strong);
  const beside = pen.width(name, strong) + 8, range = range_words(pass, plate.name), more = [`${shape} · ${range}`, shape].find((words) => beside + pen.width(words) <= room);
  if (more) pen.text(more, plate.x + beside, plate.y - 42);
  const axis = plate.turned ? "key (attended to) →" : plate.columns === "one" ? "" : column_words(plate.columns), words = more ? axis : `${shape} ${axis}`;
  if (words) pen.text(ellipsis(words, room, font(theme), measure), plate.x, plate.y - 24, { colour: theme.ink_3 });
}

/** Both ends of a tensor's colour scale. */
function range_words(pass: Pass, name: string): string {
  const kind = pass.content.tensors[name]!.colour, [low, high] = pass.view.range[name] ?? [0, 0];
  return kind === "id" ? "ids" : kind === "share" ? "0 to 1" : kind === "size" ? `0 to ${high.toPrecision(3)}` : `±${Math.max(-low, high).toPrecision(3)}`;
}

/** What the colours say; the ends of each scale stand at its tensor's name. */
function legend(pen: Pen, layout: Layout, pass: Pass): void {
  const { theme } = pen, kinds = new Set(layout.plates.map((one) => pass.content.tensors[one.name]!.colour)), y = layout.height - 34;
  let x = layout.names + 8;
  const bar = (scale: Scale, ticks: string[], words: string) => {
    pen.legend(x, y, 120, scale, ticks);
    pen.text(words, x + 132, y + 9);
    x += 132 + pen.width(words) + 28;
  };
  if (kinds.has("signed")) bar(theme.diverging, ["−", "0", "+"], "range beside each name");
  if (kinds.has("share")) bar(theme.sequential, ["0", ".25", "1"], "share, colour by √p");
  else if (kinds.has("size")) bar(theme.sequential, ["0", "", "most"], "size");
  if (!layout.plates.some((one) => one.columns === "key") || x + 130 > layout.width) return;
  pen.hatch((c) => c.rect(x, y, 14, 14), x, y, 14, 14, 4, theme.rule_2);
  pen.stroke(x + 0.5, y + 0.5, 13, 13, theme.rule_2);
  pen.text("masked: a later token", x + 20, y + 11);
}

const rect = (plate: Plate) => ({ cw: plate.w / (plate.turned ? plate.n_rows : plate.n_columns), ch: plate.h / (plate.turned ? plate.n_columns : plate.n_rows) });

function box(pen: Pen, plate: Plate, row: number, column: number, rows: number, columns: number, colour: string, width: number, dash: number[] = []): void {
  const { cw, ch } = rect(plate), grow = width > 1 ? 1 : 0;
  pen.stroke(plate.x + column * cw - grow, plate.y + row * ch - grow, Math.max(3, columns * cw) + 2 * grow - 1, Math.max(3, rows * ch) + 2 * grow - 1, colour, width, 2, dash);
}

function outline(pen: Pen, plate: Plate, pass: Pass, source: Source, kind: string, theme: Theme): void {
  const axes = pass.axes(plate.name), part = (axis: string): [number, number] => {
    const span = source.index[axes.indexOf(axis)];
    return span === undefined ? [0, 1] : typeof span === "number" ? [span, 1] : [span[0], span[1] - span[0]];
  };
  const [row, rows] = part(plate.rows), [column, columns] = plate.columns === "one" ? [0, 1] : part(plate.columns), colour = kind === "q" ? theme.series[0]! : kind === "k" ? theme.series[2]! : theme.ink;
  if (plate.turned) box(pen, plate, column, row, columns, rows, colour, 2);
  else box(pen, plate, row, column, rows, columns, colour, 2);
}

function chosen(pen: Pen, plate: Plate, pass: Pass, place: Place): void {
  const at = index_of(pass, plate.name, place), axes = pass.axes(plate.name), row = at[axes.indexOf(plate.rows)]!, column = plate.columns === "one" ? 0 : at[axes.indexOf(plate.columns)]!;
  box(pen, plate, row, 0, 1, plate.n_columns, pen.theme.accent, 1);
  box(pen, plate, row, column, 1, 1, pen.theme.paper, 4);
  box(pen, plate, row, column, 1, 1, pen.theme.accent, 2);
}

function row_names(pen: Pen, layout: Layout, pass: Pass, place: Place, measure: Measure): void {
  const { theme } = pen, first = layout.plates.find((one) => !one.turned);
  if (!first || (first.rows !== "pos" && first.rows !== "query")) return;
  const pitch = first.h / first.n_rows, every = Math.max(1, Math.ceil(14 / pitch));
  pen.text(axis_words[first.rows]!, layout.names, first.y - 24, { align: "right", colour: theme.ink_3 });
  for (let i = 0; i < first.n_rows; i++) {
    const lit = i === place.pos;
    if (!lit && (i % every || Math.abs(i - place.pos) < every)) continue;
    const ink = { mono: true, align: "right", colour: lit ? theme.accent : theme.ink_2, weight: lit ? 700 : 400 } as const;
    pen.text(ellipsis(pass.tokens[i]!, layout.names - 30, font(theme, ink), measure), layout.names, first.y + (i + 0.5) * pitch + 4, ink);
  }
  column_names(pen, layout, pass, place);
}

/** The tokens over keys and vocabulary where they fit. */
function column_names(pen: Pen, layout: Layout, pass: Pass, place: Place): void {
  for (const plate of layout.plates) {
    const words = plate.turned || plate.columns === "key" ? pass.tokens : plate.columns === "d_vocab" ? pass.columns : null, { cw } = rect(plate);
    if (!words) continue;
    const chosen = plate.columns === "d_vocab" ? place.column : place.key;
    words.forEach((word, i) => {
      const lit = i === chosen;
      if (cw < 9 && !lit) return;
      pen.text([...word].slice(0, Math.max(1, Math.floor(cw / 8))).join(""), plate.x + (i + 0.5) * cw, plate.y - 7, { mono: true, align: "center", weight: lit ? 700 : 400, colour: lit ? pen.theme.ink : pen.theme.ink_2 });
    });
  }
}

/** The plate and cell under the mouse. */
export function find_cell(layout: Layout, x: number, y: number): { plate: Plate; row: number; column: number } | null {
  const plate = layout.plates.find((one) => x >= one.x && x < one.x + one.w && y >= one.y && y < one.y + one.h);
  if (!plate) return null;
  const { cw, ch } = rect(plate);
  return { plate, row: Math.floor((y - plate.y) / ch), column: Math.floor((x - plate.x) / cw) };
}
