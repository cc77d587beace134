// The plates of a stage in ink: cells, names, legend, what is chosen and what it was computed from.
import { font, Pen } from "../paint.ts";
import { ellipsis, fixed, type Measure } from "../text.ts";
import type { Theme } from "../theme.ts";
import { axis_words, cell_size, column_tokens, drawn, plate_value, type Cell, type Colours, type Layout, type Plate } from "./layout.ts";
import { absent, type Pass } from "./pass.ts";
import type { Source } from "./receipt.ts";
import { index_of, type Place, type Walk } from "./walk.ts";

export function draw_plates(ctx: CanvasRenderingContext2D, layout: Layout, theme: Theme, hidden: string | null): void {
  const pen = new Pen(ctx, theme);
  const strange = layout.plates.map((plate) => (plate.name === hidden ? cover(pen, plate) : draw_cells(pen, plate)));
  legend(pen, layout, strange.some(Boolean));
  for (const { text, words, x, y } of layout.signs) {
    pen.text(text, x, y, { size: 16, weight: 600, colour: theme.ink, align: "center" });
    pen.text(words, x, y - 18, { weight: 600, colour: theme.accent, align: "center" });
  }
}

/** What is to be predicted: not shown yet. */
function cover(pen: Pen, plate: Plate): boolean {
  pen.fill(plate.x, plate.y, plate.w, plate.h, pen.theme.sunk, 4);
  pen.stroke(plate.x + 0.5, plate.y + 0.5, plate.w - 1, plate.h - 1, pen.theme.rule_2, 1, 4, [3, 3]);
  pen.text("?", plate.x + plate.w / 2, plate.y + plate.h / 2 + 8, { size: 24, weight: 600, align: "center", colour: pen.theme.ink_3 });
  return false;
}

/** Shares of later keys are 0 by the mask: hatched, as the scores are. */
const masked = (plate: Plate, row: number, column: number, share: number): boolean => plate.name === "pattern" && column > row && share === 0;

/** The numbers of a plate; gives whether one of them is none (NaN). */
function draw_cells(pen: Pen, plate: Plate): boolean {
  const { down, across } = drawn(plate), { cw, ch } = cell_size(plate), { colours } = plate;
  if (colours && (cw < 3 || ch < 3)) return draw_image(pen, plate, colours);
  if (!colours) return draw_ids(pen, plate);
  const gap = Math.min(cw, ch) >= 8 ? 1 : 0, written = cw >= 40 && ch >= 16 && across <= 12, round = gap && cw > 10 && down * across <= most_rounded ? 2 : 0, hidden: [number, number][] = [];
  let found = false;
  for (let row = 0; row < down; row++)
    for (let column = 0; column < across; column++) {
      const value = plate_value(plate, row, column), x = plate.x + column * cw, y = plate.y + row * ch;
      if (value === -Infinity || masked(plate, row, column, value)) { hidden.push([x, y]); continue; }
      if (absent(plate.name, row)) { if (ch >= 9) pen.text("–", x + cw / 2, y + ch / 2 + 4, { align: "center", colour: pen.theme.ink_2 }); continue; }
      if (!Number.isFinite(value)) { found = true; strange(pen, x, y, cw - gap, ch - gap); continue; }
      const byte = colours.at(value);
      pen.fill(x, y, cw - gap, ch - gap, colours.scale.css[byte]!, round);
      if (written) pen.text(fixed(value, 2), x + cw / 2, y + ch / 2 + 4, { align: "center", colour: colours.scale.ink[byte]! });
    }
  if (hidden.length) // one hatch for all of them: a clip for each cell takes longer than all the rest
    pen.hatch((c) => { for (const [x, y] of hidden) c.rect(x, y, cw - gap, ch - gap); }, plate.x, plate.y, plate.w, plate.h, 5, pen.theme.rule_2);
  return found;
}

const most_rounded = 400; // cells whose corners are round: beyond it nobody sees them, and they take ten times as long

/** The numbers of the tokens, as many as can be read. */
function draw_ids(pen: Pen, plate: Plate): boolean {
  const { ch } = cell_size(plate), every = Math.ceil(14 / ch);
  for (let row = 0; row < plate.n_rows; row += every)
    pen.text(String(plate_value(plate, row, 0)), plate.x + plate.w / 2, plate.y + (row + 0.5) * ch + 5, { size: ch < 16 ? 12 : 14, align: "center", mono: true, colour: pen.theme.ink });
  return false;
}

function strange(pen: Pen, x: number, y: number, w: number, h: number): void {
  pen.fill(x, y, w, h, pen.theme.paper);
  pen.stroke(x + 0.5, y + 0.5, w - 1, h - 1, pen.theme.rule_2);
  if (Math.min(w, h) >= 9) pen.text("×", x + w / 2, y + h / 2 + 4, { align: "center", colour: pen.theme.ink });
}

/** Each pixel the cell of the largest size that it covers; NaN is larger than any, and black or white. */
function draw_image(pen: Pen, plate: Plate, { scale, at }: Colours): boolean {
  const ratio = pen.ctx.getTransform().a, { down, across } = drawn(plate), w = Math.max(1, Math.round(plate.w * ratio)), h = Math.max(1, Math.round(plate.h * ratio));
  const image = new ImageData(w, h), colours = new Uint32Array(image.data.buffer), line = new Uint32Array(w), most = new Float32Array(w), { values, offset } = plate.cells;
  const along = plate.turned ? plate.n_columns : 1, aside = plate.turned ? 1 : plate.n_columns; // steps in memory: a column, a row
  const starts = Array.from({ length: across + 1 }, (_, column) => Math.floor((column * w) / across));
  const loud = pen.theme.dark ? 0xffffffff : 0xff000000;
  let found = false, done = -1; // the pixel row that `line` was made for: several rows of cells may share it
  for (let row = 0; row < down; row++) {
    const y0 = Math.floor((row * h) / down), y1 = Math.max(y0 + 1, Math.floor(((row + 1) * h) / down));
    if (y0 !== done) { most.fill(-1); line.fill(0); done = y0; }
    for (let column = 0; column < across; column++) {
      const value = values[offset + row * aside + column * along]!, none = Number.isNaN(value) && !absent(plate.name, row), size = none ? Infinity : Math.abs(value), x0 = starts[column]!, x1 = Math.max(x0 + 1, starts[column + 1]!);
      found ||= none;
      if (!none && (!(size < Infinity) || masked(plate, row, column, value))) continue;
      const colour = none ? loud : scale.rgba[at(value)]!;
      for (let x = x0; x < x1; x++) if (size > most[x]!) { most[x] = size; line[x] = colour; }
    }
    for (let y = y0; y < y1; y++) colours.set(line, y * w); // a row of cells is one line of pixels, repeated
  }
  pen.ctx.putImageData(image, Math.round(plate.x * ratio), Math.round(plate.y * ratio));
  return found;
}

/** What the colours say; the ends of each scale stand below its tensor. */
function legend(pen: Pen, layout: Layout, strange: boolean): void {
  const { theme } = pen, scales = new Set(layout.plates.map((one) => one.colours?.scale)), shares = layout.plates.some((one) => one.name === "pattern" || one.name === "probs"), y = layout.height - 34;
  let x = layout.names + 8;
  const bar = (scale: Theme["diverging"], ticks: string[], words: string) => {
    pen.legend(x, y, 96, scale, ticks);
    pen.text(words, x + 106, y + 9);
    x += 106 + pen.width(words) + 24;
  };
  if (scales.has(theme.diverging)) bar(theme.diverging, ["−", "0", "+"], "range under each name");
  if (scales.has(theme.sequential)) bar(theme.sequential, shares ? ["0", ".25", "1"] : ["0", "", "most"], shares ? "share, by √p" : "size");
  if (strange) {
    pen.stroke(x + 0.5, y + 0.5, 13, 13, theme.rule_2);
    pen.text("×", x + 7, y + 11, { align: "center", colour: theme.ink });
    pen.text("not a finite number", x + 20, y + 11, { colour: theme.ink });
    x += 20 + pen.width("not a finite number") + 24;
  }
  if (!layout.plates.some((one) => ["mask", "scores", "pattern"].includes(one.name)) || x + 130 > layout.width) return;
  pen.hatch((c) => c.rect(x, y, 14, 14), x, y, 14, 14, 4, theme.rule_2);
  pen.stroke(x + 0.5, y + 0.5, 13, 13, theme.rule_2);
  pen.text("masked: a later token", x + 20, y + 11);
}

/** Names, axes, what is chosen, and the cells that a receipt was computed from. */
export function mark_plates(ctx: CanvasRenderingContext2D, layout: Layout, walk: Walk, theme: Theme, measure: Measure, sources: Source[], hover: Cell | null): void {
  const pen = new Pen(ctx, theme), { pass, place, focus } = walk;
  layout.plates.forEach((plate, i) => {
    const right = layout.plates.filter((one) => one.y === plate.y && one.x > plate.x).reduce((least, one) => Math.min(least, one.x), layout.width + 10);
    caption(pen, plate, right - plate.x - 10, measure, plate.own && plate.name === focus, layout);
    const source = plate.own && sources.find((one) => one.name === plate.name && (one.layer === plate.layer || one.layer === null));
    if (source) outline(pen, plate, source);
    if (plate.name === focus) chosen(pen, plate, pass, place);
    column_names(pen, layout, plate, pass, place, measure, hovered(hover, plate.turned ? "key" : plate.columns));
    if (layout.plates.findIndex((one) => one.y === plate.y) === i) row_names(pen, layout, plate, place, measure, hovered(hover, "query"));
  });
  if (hover) box(pen, hover.plate, hover.row, hover.column, 1, 1, theme.ink, 1, [2, 2]);
}

/** The place under the mouse along an axis, "query" for all positions that go down and "key" for those that go across; -1 for none. */
function hovered(hover: Cell | null, axis: string): number {
  if (!hover) return -1;
  const { plate, row, column } = hover, down = plate.turned ? plate.columns : plate.rows === "pos" ? "query" : plate.rows, across = plate.turned ? "key" : plate.columns;
  return down === axis ? row : across === axis ? column : -1;
}

/** Name, shape and range below a plate (left of k'), its axis above. */
function caption(pen: Pen, plate: Plate, room: number, measure: Measure, lit: boolean, layout: Layout): void {
  const { theme } = pen, strong = { mono: true, weight: 600, colour: lit ? theme.accent : theme.ink } as const, shape = (plate.turned ? [plate.n_columns, plate.n_rows] : [plate.n_rows, plate.n_columns]).filter((n, i) => !(i && n === 1)).join("×") + plate.of;
  const range = plate.colours?.words ?? "ids", axis = plate.turned ? axis_words.key! : plate.columns === "one" ? "" : axis_words[plate.columns] ?? `${plate.columns} →`;
  if (plate.turned) {
    const x = plate.x - 12, y = plate.y + plate.h / 2 - 12, right = { align: "right" } as const;
    pen.text(plate.caption.replace(" ", "ᵀ "), x, y, { ...strong, ...right });
    pen.text(`${shape} · ${range}`, x, y + 16, right);
    pen.text("d_head ↓", x, y + 32, { ...right, colour: theme.ink_3 });
  } else {
    const y = plate.y + plate.h + 18, name = ellipsis(plate.caption, room, font(theme, strong), measure), beside = pen.width(name, strong) + 8, fits = beside + pen.width(`${shape}  ${range}`) <= room;
    pen.text(name, plate.x, y, strong);
    if (fits) pen.text(`${shape} · ${range}`, plate.x + beside, y);
    else pen.text(ellipsis(`${shape} · ${range}`, room, font(theme), measure), plate.x, y + 16);
  }
  if (axis && plate.named) pen.text(ellipsis(axis, room, font(theme), measure), plate.x, plate.y - (column_words_above(plate) ? layout.label + 8 : 8), { colour: theme.ink_3 });
}

const column_words_above = (plate: Plate): boolean => plate.named && (plate.turned || plate.columns === "key" || plate.columns === "d_vocab");

function box(pen: Pen, plate: Plate, row: number, column: number, rows: number, columns: number, colour: string, width: number, dash: number[] = []): void {
  const { cw, ch } = cell_size(plate), grow = width > 1 ? 1 : 0;
  pen.stroke(plate.x + column * cw - grow, plate.y + row * ch - grow, Math.max(3, columns * cw) + 2 * grow - 1, Math.max(3, rows * ch) + 2 * grow - 1, colour, width, 2, dash);
}

function outline(pen: Pen, plate: Plate, source: Source): void {
  const { theme } = pen, part = (axis: string): [number, number] => {
    const span = source.index[plate.axes.indexOf(axis)];
    return span === undefined ? [0, 1] : typeof span === "number" ? [span, 1] : [span[0], span[1] - span[0]];
  };
  const [row, rows] = part(plate.rows), [column, columns] = plate.columns === "one" ? [0, 1] : part(plate.columns), colour = plate.name === "q" ? theme.series[0]! : plate.name === "k" ? theme.series[2]! : theme.ink;
  if (plate.turned) box(pen, plate, column, row, columns, rows, colour, 2);
  else box(pen, plate, row, column, rows, columns, colour, 2);
}

function chosen(pen: Pen, plate: Plate, pass: Pass, place: Place): void {
  const at = index_of(pass, plate.name, place), row = at[plate.axes.indexOf(plate.rows)]!, column = plate.columns === "one" ? 0 : at[plate.axes.indexOf(plate.columns)]!;
  box(pen, plate, row, 0, 1, plate.n_columns, pen.theme.accent, 1);
  box(pen, plate, row, column, 1, 1, pen.theme.paper, 4);
  box(pen, plate, row, column, 1, 1, pen.theme.accent, 2);
}

/** Whether the label of a place is left out: those that are chosen or under the mouse are not, and their neighbours make room. */
export const crowded_out = (i: number, every: number, always: number[]): boolean => !always.includes(i) && (i % every > 0 || always.some((one) => one >= 0 && Math.abs(i - one) < every));

/** How far the label under the mouse moves aside where it would lie on the chosen one. */
export const aside = (i: number, hover: number, chosen: number, pitch: number, least: number): number => (i !== hover || i === chosen ? 0 : Math.sign(i - chosen) * Math.max(0, least - Math.abs(i - chosen) * pitch));

/** The tokens down the left; where they do not all fit, every so many, the chosen one and the one under the mouse. */
function row_names(pen: Pen, layout: Layout, plate: Plate, place: Place, measure: Measure, hover: number): void {
  const { theme } = pen, pitch = plate.h / plate.n_rows, every = Math.max(1, Math.ceil(14 / pitch)), x = plate.x - 8, room = Math.min(layout.names, x) - 30;
  if (plate.turned || !["pos", "query"].includes(plate.rows) || room < 12) return;
  pen.text(axis_words[layout.queries ? "query" : plate.rows]!, x, plate.y - 8, { align: "right", colour: theme.ink_3 });
  for (let i = 0; i < plate.n_rows; i++) {
    const lit = i === place.pos;
    if (crowded_out(i, every, [place.pos, hover])) continue;
    const ink = { mono: true, align: "right", colour: lit ? theme.accent : i === hover ? theme.ink : theme.ink_2, weight: lit ? 700 : 400 } as const;
    pen.text(ellipsis(plate.tokens[i]!, room, font(theme, ink), measure), x, plate.y + (i + 0.5) * pitch + 4 + aside(i, hover, place.pos, pitch, 14), ink);
  }
}

/** The tokens over keys and vocabulary: level where all fit, else turned and as many as can be read; of narrow columns only the chosen one and the one under the mouse. */
function column_names(pen: Pen, layout: Layout, plate: Plate, pass: Pass, place: Place, measure: Measure, hover: number): void {
  const words = plate.named ? column_tokens(pass, plate) : null, { cw } = cell_size(plate), { ctx, theme } = pen;
  if (!words) return;
  const at = plate.columns === "d_vocab" ? place.column : place.key, level = layout.label < 20, every = level ? 1 : Math.max(1, Math.ceil(17 / cw)); // turned by 45°, a line of text needs 17 pixels of columns
  words.forEach((word, i) => {
    const lit = i === at, ink = { mono: true, weight: lit ? 700 : 400, colour: lit || i === hover ? theme.ink : theme.ink_2 } as const, x = plate.x + (i + 0.5) * cw + aside(i, hover, at, cw, level ? 0 : 17), y = plate.y - 6;
    if (crowded_out(i, cw < 9 ? words.length : every, [at, hover])) return;
    if (level) return pen.text(cw < 9 ? ellipsis(word, 90, font(theme, ink), measure) : word, cw < 9 ? plate.x + i * cw : x, y, { ...ink, align: cw < 9 ? "left" : "center" });
    ctx.save();
    ctx.translate(x + 4, y);
    ctx.rotate(-Math.PI / 4);
    pen.text(ellipsis(word, 62, font(theme, ink), measure), 0, 0, ink);
    ctx.restore();
  });
}
