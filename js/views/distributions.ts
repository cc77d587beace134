// How weights, gradients and activations are spread through training: a small chart of bands for each part and layer.
import { font, Pen } from "../paint.ts";
import type { Control, Hit, Panel, Sized } from "../panel.ts";
import type { View } from "../payload.ts";
import type { Scene } from "../scene.ts";
import { name_steps } from "../steps.ts";
import { whole, wrap } from "../text.ts";
import { log_step, walk_steps } from "./training.ts";
import { ends } from "./events.ts";

interface Part { kind: string; name: string; words?: string; rows: number; values: ArrayLike<number> }
interface Tile { part: Part; row: number; x: number; y: number; low: number; high: number }
interface Grid extends Sized { tiles: Tile[]; wide: number; tall: number; first: number; last: number; names: string[] }

const shares = 7, head = 40, gap_x = 60, gap_y = 30, tall = 72;
const steps_of = (view: View): ArrayLike<number> => view.arrays.steps!.values;
const parts_of = (view: View): Part[] => (view.content!.parts as Omit<Part, "values">[]).map((one, i) => ({ ...one, values: view.arrays[`part_${i}`]!.values }));
const kinds_of = (view: View): string[] => [...new Set(parts_of(view).map(({ kind }) => kind))];
const chosen = ({ view, options }: Pick<Scene, "view" | "options">): string => (kinds_of(view).includes(options.what) ? options.what : kinds_of(view)[0]!);

/** The numbers of a part's row at the i-th step. */
export const at = (part: Pick<Part, "rows" | "values">, i: number, row: number): number[] => Array.from({ length: shares }, (_, share) => part.values[(i * part.rows + row) * shares + share]!);

/** The ends of the scale of a row: what its 5 to 95 % reach at any step; lowest and highest beyond are clipped. */
export function scale_of(part: Pick<Part, "rows" | "values">, row: number, n: number): [number, number] {
  let low = Infinity, high = -Infinity;
  for (let i = 0; i < n; i++) {
    const [, five, , , , most] = at(part, i, row);
    if (Number.isFinite(five)) { low = Math.min(low, five!); high = Math.max(high, most!); }
  }
  return low === Infinity ? [0, 1] : low < high ? [low - 0.1 * (high - low), high + 0.1 * (high - low)] : [low - 1, high + 1];
}

function layout(scene: Scene, width: number): Grid {
  const parts = parts_of(scene.view).filter(({ kind }) => kind === chosen(scene)), n = steps_of(scene.view).length, [first, last] = ends(scene);
  const of_blocks = parts.filter((part) => part.rows > 1 || !/^(wte|wpe|lm_head)$/.test(part.name)), alone = parts.filter((part) => !of_blocks.includes(part));
  const most = Math.max(of_blocks.length, alone.length), columns = Math.max(1, Math.min(most, Math.floor((width + gap_x) / (150 + gap_x)))), wide = Math.floor((width - 2 - gap_x * columns) / columns), tiles: Tile[] = [];
  let y = head;
  const place = (list: [Part, number][]) => {
    list.forEach(([part, row], i) => { const [low, high] = scale_of(part, row, n); tiles.push({ part, row, x: gap_x + (i % columns) * (wide + gap_x), y: y + Math.floor(i / columns) * (tall + gap_y), low, high }); });
    if (list.length) y += Math.ceil(list.length / columns) * (tall + gap_y);
  };
  for (let row = 0; row < (of_blocks[0]?.rows ?? 0); row++) place(of_blocks.map((part) => [part, row]));
  place(alone.map((part) => [part, 0]));
  const names = wrap(legend_of(parts), width, font(scene.theme), scene.measure);
  return { width, height: y + 24 + 17 * names.length, tiles, wide, tall, first, last, names };
}

const x_of = (grid: Grid, tile: Tile, step: number) => tile.x + ((log_step(step) - log_step(grid.first)) / (log_step(grid.last) - log_step(grid.first) || 1)) * grid.wide;
const y_of = (tile: Tile, value: number) => tile.y + tall - ((Math.min(tile.high, Math.max(tile.low, value)) - tile.low) / (tile.high - tile.low)) * tall;

/** A number of so many digits, without zeros at its end: 0.12 or 2e−5; two at the end of a scale. */
export function terse(value: number, digits = 2): string {
  if (!Number.isFinite(value)) return "×";
  const size = Math.abs(value), [mantissa, power] = value.toExponential(digits - 1).split("e");
  const words = size && (size < 0.001 || size >= 10000) ? `${Number(mantissa)}e${Number(power)}` : String(Number(value.toPrecision(digits)));
  return words.replaceAll("-", "\u2212");
}

const said_of: Record<string, string> = { weights: "value of the weights", gradients: "gradient of the loss by the weights", activations: "value of the activations" };

const title = ({ part, row }: Tile): string => (part.rows > 1 || /\./.test(part.name) || /_/.test(part.name) ? `${part.name === "lm_head" ? "" : `L${row} `}${part.name}` : part.name);

function draw(ctx: CanvasRenderingContext2D, grid: Grid, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, view } = scene, steps = steps_of(view);
  for (const tile of grid.tiles) {
    pen.text(title(tile), tile.x, tile.y - 6, { weight: 500, colour: theme.ink });
    pen.text(terse(tile.high), tile.x - 6, tile.y + 9, { align: "right" });
    pen.text(terse(tile.low), tile.x - 6, tile.y + tall, { align: "right" });
    if (tile.low < 0 && tile.high > 0) pen.line(tile.x, Math.round(y_of(tile, 0)) + 0.5, tile.x + grid.wide, Math.round(y_of(tile, 0)) + 0.5, theme.rule);
    band(pen, grid, tile, steps, 1, 5, 0.22);
    band(pen, grid, tile, steps, 2, 4, 0.4);
    line(pen, grid, tile, steps, 3, theme.series[0]!, 1.5);
    for (const share of [0, 6]) extremes(pen, grid, tile, steps, share);
    pen.line(tile.x, tile.y + tall + 0.5, tile.x + grid.wide, tile.y + tall + 0.5, theme.rule_2);
  }
  axes(pen, grid);
  grid.names.forEach((words, i) => pen.text(words, 0, grid.height - 8 - 17 * (grid.names.length - 1 - i), { colour: theme.ink_3 }));
}

/** What the names of the charts stand for. */
const legend_of = (parts: Part[]): string => parts.filter(({ words }) => words).map(({ name, words }) => `${name}: ${words}`).join(" · ");

/** The axis of the steps, below the lowest chart of each column; the first of those in a row says what it is. */
function axes(pen: Pen, grid: Grid): void {
  const lowest = new Map(grid.tiles.map((tile) => [tile.x, tile])), { wide } = grid; // tiles come from the top
  for (const tile of lowest.values()) {
    const y = tile.y + tall + 18;
    if (![...lowest.values()].some((other) => other.y === tile.y && other.x < tile.x)) pen.text("step →", tile.x - 16, y, { align: "right" });
    name_steps(pen, { ...grid, y, width: tile.x + wide, x_of: (step) => x_of(grid, tile, step) }, null);
  }
}

/** The filled range between two shares, broken where nothing was measured. */
function band(pen: Pen, grid: Grid, tile: Tile, steps: ArrayLike<number>, low: number, high: number, alpha: number): void {
  const { ctx } = pen;
  for (const run of measured(tile, steps)) {
    ctx.beginPath();
    for (const i of run) ctx.lineTo(x_of(grid, tile, steps[i]!), y_of(tile, at(tile.part, i, tile.row)[high]!));
    for (const i of [...run].reverse()) ctx.lineTo(x_of(grid, tile, steps[i]!), y_of(tile, at(tile.part, i, tile.row)[low]!));
    ctx.closePath(); ctx.globalAlpha = alpha; ctx.fillStyle = pen.theme.series[0]!; ctx.fill(); ctx.globalAlpha = 1;
  }
}

function line(pen: Pen, grid: Grid, tile: Tile, steps: ArrayLike<number>, share: number, colour: string, width: number): void {
  for (const run of measured(tile, steps)) pen.path(run.map((i): [number, number] => [x_of(grid, tile, steps[i]!), y_of(tile, at(tile.part, i, tile.row)[share]!)]), colour, width);
}

/** Lowest and highest: a dot, or where it lies beyond the scale a tick at the edge. */
function extremes(pen: Pen, grid: Grid, tile: Tile, steps: ArrayLike<number>, share: number): void {
  for (let i = 0, last = -9; i < steps.length; i++) {
    const value = at(tile.part, i, tile.row)[share]!, x = x_of(grid, tile, steps[i]!);
    if (!Number.isFinite(value) || x - last < 5) continue;
    last = x;
    if (value > tile.high || value < tile.low) { const y = value > tile.high ? tile.y : tile.y + tall; pen.line(x, y - 2, x, y + 2, pen.theme.ink_3); }
    else pen.dot(x, y_of(tile, value), 1.2, pen.theme.ink_3);
  }
}

/** The steps at which something was measured, in unbroken runs. */
function measured(tile: Tile, steps: ArrayLike<number>): number[][] {
  const runs: number[][] = [];
  let run: number[] = [];
  for (let i = 0; i <= steps.length; i++) {
    if (i < steps.length && Number.isFinite(at(tile.part, i, tile.row)[3]!)) { run.push(i); continue; }
    if (run.length) runs.push(run);
    run = [];
  }
  return runs;
}

const index_of = (steps: ArrayLike<number>, step: number): number => { let best = 0; for (let i = 0; i < steps.length && steps[i]! <= step; i++) best = i; return best; };

/** The numbers of a chart at the step that is looked at, in words: all four digits that a run records. */
function told(tile: Tile, view: View, step: number): string {
  const steps = steps_of(view), i = index_of(steps, step), [low, five, quarter, middle, three, most, high] = at(tile.part, i, tile.row).map((value) => terse(value, 4));
  return `${title(tile)} at step ${whole(steps[i]!)}: median ${middle}, half of them ${quarter} to ${three}, nine of ten ${five} to ${most}, lowest ${low}, highest ${high}`;
}

function mark(ctx: CanvasRenderingContext2D, grid: Grid, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, look, board, view } = scene, pointed = grid.tiles[scene.spot as number];
  if (pointed) pen.text(told(pointed, view, look.step), 0, 12, { colour: theme.ink });
  if (!board.steps.length) return;
  for (const tile of grid.tiles) { const x = Math.round(x_of(grid, tile, look.step)) + 0.5; pen.line(x, tile.y, x, tile.y + tall, theme.accent, 1.5); }
}

function hit(grid: Grid, x: number, y: number): Hit | null {
  const spot = grid.tiles.findIndex((tile) => x >= tile.x - 4 && x <= tile.x + grid.wide + 4 && y >= tile.y - 18 && y <= tile.y + tall + 4);
  if (spot < 0) return null;
  const layer = grid.tiles[spot]!.part.rows > 1 ? { layer: grid.tiles[spot]!.row } : {};
  return { at: layer, spot };
}

const controls = ({ view }: Scene): Control[] => [{ kind: "choice", name: "what", label: "of", choices: kinds_of(view).map((kind): [string, string] => [kind, kind]) }];

const bands: Panel<Grid> = {
  kind: "distributions", name: "bands", folded: true, options: { what: "weights" },
  slot: () => "below",
  heading: (scene) => ({ title: scene.view.title, subtitle: `${said_of[chosen(scene)] ?? chosen(scene)} ↑ · ${scene.view.subtitle}` }),
  controls, layout, draw, mark, hit, press: walk_steps,
  says(scene) {
    const grid = layout(scene, 1000), { spot } = scene;
    const tile = grid.tiles[(spot as number) ?? 0];
    return tile ? `${chosen(scene)} of ${grid.tiles.length} parts. ${told(tile, scene.view, scene.look.step)}.` : "Nothing was measured.";
  },
};

export const panels: Panel[] = [bands];
