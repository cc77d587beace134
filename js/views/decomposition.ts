// One score as a table that adds up: what wrote the query, times what wrote the key.
import { around } from "../colour.ts";
import { font, Pen } from "../paint.ts";
import type { Control, Hit, Panel, Patch, Sized } from "../panel.ts";
import type { View } from "../payload.ts";
import type { Scene } from "../scene.ts";
import { detail_to_show } from "../stale.ts";
import { ellipsis, head_name, in_table, is_zero, precise, quoted } from "../text.ts";

/** A row or column: one component, or all the others together. */
export interface Side { name: string; members: number[] }
export interface Table { rows: Side[]; columns: Side[]; cells: number[][]; row_sums: number[]; column_sums: number[]; sum: number }
interface Grid extends Sized { table: Table | null; x: number; y: number; w: number; h: number; most: number; names: boolean }
interface Spot { row: number; column: number }

const few = 8, name = 104, sums = 62;

/** The components with the largest terms, in the order of writing, and the others as one. */
function sides(names: string[], weights: number[], all: boolean): Side[] {
  const order = names.map((_, i) => i), own = (i: number): Side => ({ name: names[i]!, members: [i] });
  if (all || names.length <= few + 1) return order.map(own);
  const largest = new Set([...order].sort((a, b) => weights[b]! - weights[a]!).slice(0, few)), others = order.filter((i) => !largest.has(i));
  return [...order.filter((i) => largest.has(i)).map(own), { name: `${others.length} others`, members: others }];
}

/** The table of a score with its sums; grouped, so that it still adds up. */
export function table_of(detail: View, all: boolean): Table {
  const { values, shape } = detail.arrays.terms!, [n, m] = shape as [number, number];
  const term = (i: number, j: number) => values[i * m + j]!, by_row = Array<number>(n).fill(0), by_column = Array<number>(m).fill(0);
  for (let i = 0; i < n; i++) for (let j = 0; j < m; j++) { by_row[i]! += Math.abs(term(i, j)); by_column[j]! += Math.abs(term(i, j)); }
  const rows = sides(detail.labels.query_component!, by_row, all), columns = sides(detail.labels.key_component!, by_column, all);
  const cells = rows.map((row) => columns.map((column) => row.members.reduce((sum, i) => sum + column.members.reduce((part, j) => part + term(i, j), 0), 0)));
  const row_sums = cells.map((row) => row.reduce((a, b) => a + b, 0)), column_sums = columns.map((_, j) => cells.reduce((sum, row) => sum + row[j]!, 0));
  return { rows, columns, cells, row_sums, column_sums, sum: row_sums.reduce((a, b) => a + b, 0) };
}

const has_table = (detail: View | null): boolean => Boolean(detail?.arrays.terms);

function layout(scene: Scene, width: number): Grid {
  const { shown } = detail_to_show(scene), all = Boolean(scene.options.all), y = 92;
  if (!shown || !has_table(shown)) return { width, height: y + (few + 2) * 24 + 96, table: null, x: name, y, w: 0, h: 0, most: 1, names: true };
  const table = table_of(shown, all), w = Math.max(3, Math.min(72, Math.floor((width - name - sums) / table.columns.length))), h = Math.max(3, Math.min(24, w));
  const most = Math.max(1e-9, ...table.cells.flat().map(Math.abs).filter(Number.isFinite)), names = h >= 14;
  return { width, height: y + table.rows.length * h + 36 + 96, table, x: name, y, w, h: names ? Math.max(h, 20) : h, most, names };
}

const bottom = (grid: Grid) => grid.y + (grid.table?.rows.length ?? 0) * grid.h;

function draw(ctx: CanvasRenderingContext2D, grid: Grid, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme } = scene, { shown, stale } = detail_to_show(scene), { table } = grid;
  if (!shown || !table) return pen.text(shown?.labels.note?.[0] ?? scene.detail_words, 0, 18, { colour: theme.ink_3 });
  if (stale) ctx.globalAlpha = 0.55;
  pen.text("query side ↓", 0, grid.y - 8, { weight: 500, colour: theme.ink });
  pen.text("key side →", 0, 14, { weight: 500, colour: theme.ink });
  table.cells.forEach((row, i) => row.forEach((value, j) => draw_cell(pen, grid, i, j, value)));
  if (grid.names) draw_names(pen, grid, scene);
  draw_sums(pen, grid, shown);
  ctx.globalAlpha = 1;
}

function draw_cell(pen: Pen, { x, y, w, h, most }: Grid, i: number, j: number, value: number): void {
  const { theme } = pen, left = x + j * w, top = y + i * h, gap = w > 5 ? 1 : 0;
  if (!Number.isFinite(value)) return pen.strange(value, left, top, Math.min(w, h) - 1);
  const words = in_table(value, most), byte = is_zero(words) ? around(0, most) : around(value, most); // what reads as 0 looks like 0
  pen.fill(left, top, w - gap, h - gap, theme.diverging.css[byte]!, w > 10 ? 2 : 0);
  if (h >= 18 && pen.width(words) <= w - 6) pen.text(words, left + (w - 1) / 2, top + h / 2 + 4, { align: "center", colour: theme.diverging.ink[byte]! });
}

function draw_names(pen: Pen, { table, x, y, w, h }: Grid, { theme, measure }: Scene): void {
  table!.rows.forEach((row, i) => pen.text(ellipsis(row.name, name - 10, font(theme), measure), 0, y + i * h + h / 2 + 4));
  table!.columns.forEach((column, j) => {
    const { ctx } = pen;
    ctx.save(); ctx.translate(x + j * w + w / 2 + 2, y - 7); ctx.rotate((-50 * Math.PI) / 180);
    pen.text(ellipsis(column.name, 96, font(theme), measure), 0, 3);
    ctx.restore();
  });
}

/** Row sums at the right, column sums below, and the total beside the recorded score. */
function draw_sums(pen: Pen, grid: Grid, detail: View): void {
  const written = (sum: number) => in_table(sum, grid.most);
  const { theme } = pen, { table, x, y, w, h } = grid, right = x + table!.columns.length * w + sums - 4, foot = bottom(grid), check = detail.checks[0]!;
  pen.text("sum", right, y - 8, { align: "right", weight: 500, colour: theme.ink });
  if (grid.names) table!.row_sums.forEach((sum, i) => pen.text(written(sum), right, y + i * h + h / 2 + 4, { align: "right", colour: theme.ink }));
  pen.line(0, foot + 4.5, right, foot + 4.5, theme.rule);
  pen.text("sum", 0, foot + 20, { weight: 500, colour: theme.ink });
  if (grid.names) table!.column_sums.forEach((sum, j) => { if (pen.width(written(sum)) <= w + 2) pen.text(written(sum), x + j * w + w / 2, foot + 20, { align: "center", colour: theme.ink }); });
  pen.text(written(table!.sum), right, foot + 20, { align: "right", weight: 600, colour: theme.ink });
  const words = `sum ${precise(table!.sum, 4)} = score ${precise(detail.arrays.score!.values[0]!, 4)}`;
  pen.text(words, 0, foot + 44, { weight: 600, colour: theme.ink });
  pen.text(`${check.passed ? "✓" : "✕"} error ${check.error}`, pen.width(words, { weight: 600 }) + 12, foot + 44, { colour: check.passed ? theme.good : theme.ink });
  pen.legend(0, foot + 84, Math.min(200, grid.width), theme.diverging, [precise(-grid.most), "0", precise(grid.most)]);
  if (detail.labels.key_component!.some((one) => one.includes("bias"))) {
    const note = "Terms of the key side's biases are the same for every key: they move no attention.";
    pen.text(grid.width > 640 ? note : "Key-side biases are the same for every key.", Math.min(200, grid.width) + 16, foot + 93, { colour: theme.ink_3 });
  }
}

/** The cell under the mouse, else the chosen one. */
function spot_of({ spot, options }: Scene, table: Table): Spot | null {
  const at = (spot as Spot | undefined) ?? (options.cell as Spot | null);
  return at && at.row < table.rows.length && at.column < table.columns.length ? at : null;
}

const cell_words = (table: Table, { row, column }: Spot): string => `${table.rows[row]!.name} × ${table.columns[column]!.name} adds ${precise(table.cells[row]![column]!, 4)}`;

function mark(ctx: CanvasRenderingContext2D, grid: Grid, scene: Scene): void {
  const { table, x, y, w, h } = grid, pen = new Pen(ctx, scene.theme), { theme } = scene, at = table && spot_of(scene, table);
  if (table && detail_to_show(scene).stale) pen.text(scene.detail_words, 84, 14, { colour: theme.ink_3 });
  if (!table) return;
  const words = at ? cell_words(table, at) : "Point at a cell for its value.";
  pen.text(ellipsis(words, grid.width, font(theme), scene.measure), 0, bottom(grid) + 64, { colour: at ? theme.ink : theme.ink_3 });
  if (at) pen.stroke(x + at.column * w - 1, y + at.row * h - 1, w + 1, h + 1, theme.ink, 1.5, 3);
}

function hit({ table, x, y, w, h }: Grid, px: number, py: number): Hit | null {
  const column = Math.floor((px - x) / w), row = Math.floor((py - y) / h);
  if (!table || row < 0 || row >= table.rows.length || column < 0 || column >= table.columns.length) return null;
  return { at: {}, spot: { row, column }, options: { cell: { row, column } } };
}

function press(key: string, scene: Scene): Patch | null {
  const step: Record<string, [number, number]> = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [-1e6, -1e6], End: [1e6, 1e6] };
  const { shown } = detail_to_show(scene);
  if (!step[key] || !shown || !has_table(shown)) return null;
  const table = table_of(shown, Boolean(scene.options.all)), at = spot_of(scene, table) ?? { row: 0, column: 0 };
  const kept = (to: number, count: number) => Math.max(0, Math.min(count - 1, to));
  return { options: { cell: { row: kept(at.row + step[key]![0], table.rows.length), column: kept(at.column + step[key]![1], table.columns.length) } } };
}

const controls = (): Control[] => [{ kind: "toggle", name: "all", label: "all components" }];

const decomposition: Panel<Grid> = {
  kind: "decomposition", name: "decomposition", half: true, folded: true, by_detail: true,
  options: { all: false, cell: null },
  slot: () => "below",
  heading: ({ view, look }) => ({ title: view.title, subtitle: `${head_name(look.layer, look.head)}, query ${look.query} → key ${look.key} · ${view.subtitle}` }),
  controls, layout, draw, mark, hit, press,
  stale: ({ look, detail, detail_words }) => `${look.layer} ${look.head} ${look.query} ${look.key} ${detail ? "" : detail_words}`,
  says(scene) {
    const { look, detail, tokens } = scene, where = `${head_name(look.layer, look.head)}, ${quoted(tokens[look.query] ?? "")} to ${quoted(tokens[look.key] ?? "")}`;
    if (!detail || !has_table(detail)) return `${where}: ${detail?.labels.note?.[0] ?? scene.detail_words}.`;
    const table = table_of(detail, Boolean(scene.options.all)), at = spot_of(scene, table);
    return `${where}: the table adds up to ${precise(table.sum, 4)}, the score is ${precise(detail.arrays.score!.values[0]!, 4)}.${at ? ` ${cell_words(table, at)}.` : ""}`;
  },
};

export const panels: Panel[] = [decomposition];
