// The logit lens: for each layer and position the token that the model would say if it stopped there.
import type { Scale } from "../colour.ts";
import { font, Pen } from "../paint.ts";
import type { Control, Hit, Panel, Patch, Sized } from "../panel.ts";
import type { View } from "../payload.ts";
import type { Scene } from "../scene.ts";
import { ellipsis, fixed, quoted, whole, wrap } from "../text.ts";
import { ranks_chart, rank_words, type Followed } from "../ranks.ts";

export interface Grid extends Sized {
  left: number; top: number; cell: number; tall: number; n: number; n_points: number; foot: number; chart: { x: number; y: number; w: number; tall: number };
  /** Where the sentence begins, and its lines. */
  text: number; lines: number;
}
/** One cell of the grid: a point of the model and a position. */
interface Cell { point: number; query: number }

const left = 56, top = 44, gap = 28;
const cells_of = ({ view, detail }: Pick<Scene, "view" | "detail">): View | null => (view.arrays.top_words ? view : detail);
const points_of = ({ view }: Scene): string[] => view.labels.point!;
const beside = (width: number) => width >= 520;

/**
 * The columns shown where there are `n`: of the board's window of queries, the part that holds the chosen one. The parts are
 * counted from the end, so that a click on a column that is shown moves none.
 */
export function first_column(scene: Pick<Scene, "corner" | "place" | "selection" | "tokens">, n: number): number {
  const { corner, place, selection, tokens } = scene, begin = place.window < tokens.length ? corner.query : 0;
  const end = Math.min(tokens.length, begin + place.window), chosen = Math.min(end - 1, selection.query ?? end - 1);
  return Math.max(begin, end - (Math.floor((end - 1 - chosen) / n) + 1) * n);
}

function layout(scene: Scene, width: number): Grid {
  const n_points = points_of(scene).length, tall = n_points > 8 ? 26 : 32, side = beside(width) ? 190 + gap : 0;
  const most = Math.min(scene.place.window, scene.tokens.length), room = width - left - side;
  const parts = Math.ceil(most / Math.max(1, Math.floor(room / 48))), n = Math.ceil(most / parts), cell = Math.min(64, Math.floor(room / n));
  const foot = top + n_points * tall + 24, text = foot + (side ? 52 : 72), lines = side ? 3 : 6;
  const chart = side ? { x: left + n * cell + gap, y: top, w: Math.min(260, width - left - n * cell - gap), tall } : { x: left, y: text + lines * 20 + 44, w: width - left - 8, tall: 20 };
  return { width, height: side ? text + lines * 20 + 8 : chart.y + n_points * 20 + 56, left, top, cell, tall, n, n_points, foot, chart, text, lines };
}

/** A half is enough where the words of all its tokens fit. */
export const fits_half = ({ place, tokens }: Scene): boolean => left + Math.min(place.window, tokens.length) * 48 + 190 + gap <= (place.width - 32) / 2;

interface Colouring { name: string; words: string; low: number; high: number; ticks: string[]; scale: Scale }
function colouring({ options, view, theme }: Scene): Colouring {
  const name = String(options.colour ?? "top_probs"), [low, high] = view.range[name]!;
  const nats = (value: number) => fixed(value, value % 1 ? 2 : 0);
  const words = { top_probs: "probability of the token in the cell", entropy: "entropy of the prediction, nats", kl: "KL to the final prediction, nats" }[name]!;
  return { name, words, low, high, ticks: name === "top_probs" ? ["0", ".5", "1"] : [nats(low), nats(high / 2), nats(high)], scale: theme.sequential };
}

/** A value of the lens at a point and position; null where that position is not here. */
function value_of(cells: View, name: string, point: number, query: number, rank = 0): number | null {
  const array = cells.arrays[name]!, [, n, k = 1] = array.shape, column = query - cells.arrays.first!.values[0]!;
  return column < 0 || column >= n! ? null : array.values[(point * n! + column) * k + rank]!;
}

const top_word = (cells: View, point: number, query: number, rank = 0): string => cells.labels.word![value_of(cells, "top_words", point, query, rank)!] ?? "";

function draw(ctx: CanvasRenderingContext2D, grid: Grid, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), cells = cells_of(scene), from = first_column(scene, grid.n), points = points_of(scene);
  points.forEach((name, point) => pen.text(name, grid.left - 10, grid.top + point * grid.tall + grid.tall / 2 + 4, { align: "right" }));
  pen.text("truth", grid.left - 10, grid.foot - 7, { align: "right" });
  if (!cells || value_of(cells, "entropy", 0, from) === null) pen.text(scene.detail_words, grid.left, grid.top + 20, { colour: scene.theme.ink_3 });
  else for (let i = 0; i < grid.n; i++) {
    for (let point = 0; point < grid.n_points; point++) draw_cell(pen, grid, scene, cells, { point, query: from + i }, i);
    draw_truth(pen, grid, scene, cells, from + i, i);
  }
  legend(pen, grid, scene, cells);
}

function draw_cell(pen: Pen, grid: Grid, scene: Scene, cells: View, { point, query }: Cell, i: number): void {
  const x = grid.left + i * grid.cell, y = grid.top + point * grid.tall, w = grid.cell - 1, h = grid.tall - 1, { theme, measure } = scene;
  const { name, low, high, scale } = colouring(scene), value = value_of(cells, name, point, query);
  if (value === null) return;
  if (!Number.isFinite(value)) { pen.stroke(x + 0.5, y + 0.5, w - 1, h - 1, theme.rule_2, 1, 2); return pen.text("×", x + w / 2, y + h / 2 + 4, { align: "center", colour: theme.ink }); }
  const byte = Math.round(255 * Math.min(1, Math.max(0, (value - low) / (high - low))));
  pen.fill(x, y, w, h, scale.css[byte]!, 2);
  if (value > high * (1 + 1e-6)) pen.corner(x + w, y);
  const right = value_of(cells, "true_rank", point, query) === 1, ink = { weight: right ? 700 : 400, mono: true, colour: scale.ink[byte]! };
  pen.text(ellipsis(top_word(cells, point, query), w - 4, font(theme, ink), measure), x + w / 2, y + h / 2 + 4, { ...ink, align: "center" });
}

/** What really follows; with a check mark where the model's own prediction is right. */
function draw_truth(pen: Pen, grid: Grid, scene: Scene, cells: View, query: number, i: number): void {
  const { theme, tokens, measure } = scene, x = grid.left + i * grid.cell, middle = x + (grid.cell - 1) / 2, word = tokens[query + 1];
  if (word === undefined) return pen.text("–", middle, grid.foot - 7, { align: "center", colour: theme.ink_3 });
  const right = value_of(cells, "true_rank", grid.n_points - 1, query) === 1, ink = { mono: true, weight: right ? 600 : 400, colour: right ? theme.good : theme.ink_2 };
  pen.text(ellipsis(right ? `✓\u2009${word}` : word, grid.cell - 3, font(theme, ink), measure), middle, grid.foot - 7, { ...ink, align: "center" });
}

function legend(pen: Pen, grid: Grid, scene: Scene, cells: View | null): void {
  const { words, ticks, scale, name, high } = colouring(scene), w = Math.min(200, grid.width - grid.left), y = grid.foot + 10;
  pen.legend(grid.left, y, w, scale, ticks);
  const over = cells && cells.arrays[name]!.values.some((value) => value > high * (1 + 1e-6)) ? ` · missing corner: above ${ticks[2]}` : "";
  const stacked = !beside(grid.width), x = stacked ? grid.left : grid.left + w + 16, end = stacked ? grid.width : grid.chart.x - 8;
  const lines = stacked ? [`${words}${over} · bold: the truth`] : [words + over, "bold: the truth"];
  lines.forEach((line, i) => pen.text(ellipsis(line, end - x, font(scene.theme), scene.measure), x, (stacked ? y + 42 : y + 9) + 16 * i));
}

/** The cell under the mouse, else the one that the keys chose. */
function cell_at(scene: Scene): Cell {
  const spot = scene.spot as Cell | undefined, last = points_of(scene).length - 1;
  return spot ?? { point: Math.min(last, Number(scene.options.point ?? last)), query: scene.look.query };
}

interface Pin { point: number; query: number; text: string }
const text_of = (scene: Scene): string => scene.tokens.join("\u0000");

/** The ranks at every point of the token that is likeliest at one of them; none where they were not computed. */
function ranks_of(cells: View, point: number, query: number): number[] {
  const array = cells.arrays.rank_of_top, [, n_points, n] = array?.shape ?? [0, 0, 0], column = query - cells.arrays.first!.values[0]!;
  return Array.from({ length: n_points! }, (_, at) => array!.values[(point * n_points! + at) * n! + column]!);
}

/** The tokens whose ranks the chart shows: the pinned one, and the truth after the position looked at. */
export function followed(scene: Scene): Followed[] {
  const cells = cells_of(scene), { query } = cell_at(scene), found: Followed[] = [];
  if (!cells) return found;
  const pin = scene.options.pin as Pin | null, n_points = points_of(scene).length, all = Array.from({ length: n_points }, (_, point) => point);
  if (pin && pin.text === text_of(scene) && value_of(cells, "entropy", 0, pin.query) !== null)
    found.push({ word: top_word(cells, pin.point, pin.query), what: `pinned at ${pin.query}`, ranks: ranks_of(cells, pin.point, pin.query) });
  const truth = scene.tokens[query + 1], last = n_points - 1;
  if (truth === undefined && !found.length && value_of(cells, "entropy", 0, query) !== null) found.push({ word: top_word(cells, last, query), what: `the answer after ${query}`, ranks: ranks_of(cells, last, query) });
  if (truth !== undefined && value_of(cells, "entropy", 0, query) !== null)
    found.push({ word: truth, what: `truth after ${query}`, ranks: all.map((point) => value_of(cells, "true_rank", point, query)!) });
  return found;
}

function mark(ctx: CanvasRenderingContext2D, grid: Grid, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, look, tokens, measure } = scene, from = first_column(scene, grid.n), at = cell_at(scene);
  const some = grid.n < tokens.length ? `  ${whole(from)} to ${whole(from + grid.n - 1)} of ${whole(tokens.length)}` : "";
  pen.text(`position →${some}`, grid.left, 12, { weight: 500, colour: theme.ink });
  pen.text("layer ↓", grid.left - 10, grid.top - 9, { align: "right", weight: 500, colour: theme.ink });
  for (let i = 0; i < grid.n; i++) {
    const lit = from + i === look.query, ink = { mono: true, weight: lit ? 700 : 400, colour: lit ? theme.accent : theme.ink_2 };
    pen.text(ellipsis(tokens[from + i]!, grid.cell - 4, font(theme, ink), measure), grid.left + i * grid.cell + (grid.cell - 1) / 2, grid.top - 9, { ...ink, align: "center" });
  }
  const x = (query: number) => grid.left + (query - from) * grid.cell, inside = (query: number) => query >= from && query < from + grid.n;
  if (inside(look.query)) pen.stroke(x(look.query) - 1, grid.top - 1, grid.cell + 1, grid.n_points * grid.tall + 1, theme.accent, 1.5, 3);
  if (inside(at.query)) pen.stroke(x(at.query), grid.top + at.point * grid.tall, grid.cell - 1, grid.tall - 1, theme.ink, 2, 3);
  const pin = scene.options.pin as Pin | null;
  if (pin && pin.text === text_of(scene) && inside(pin.query)) pen.dot(x(pin.query) + 6, grid.top + pin.point * grid.tall + 6, 3.5, theme.accent);
  wrap(sentence(scene), grid.width - grid.left, "", (words) => pen.width(words, { size: 13 })).slice(0, grid.lines)
    .forEach((line, i) => pen.text(line, grid.left, grid.text + 10 + 20 * i, { size: 13, colour: theme.ink }));
  ranks_chart(pen, grid.chart, followed(scene), points_of(scene), scene.view.range.true_rank![1], beside(grid.width), at.point);
}

/** The cell in words: the likeliest tokens, the truth, and how sure. */
export function sentence(scene: Scene): string {
  const cells = cells_of(scene), { point, query } = cell_at(scene), name = points_of(scene)[point]!, token = quoted(scene.tokens[query] ?? "");
  const here = cells && value_of(cells, "entropy", point, query);
  if (!cells || here === null) return `The lens at ${token}: ${scene.detail_words || "outside the part that is here"}.`;
  const k = cells.arrays.top_words!.shape[2]!, p = (rank: number) => value_of(cells, "top_probs", point, query, rank)!;
  const list = Array.from({ length: k }, (_, rank) => `${quoted(top_word(cells, point, query, rank))} ${fixed(p(rank), 4)}`).join(", ");
  const rank = value_of(cells, "true_rank", point, query)!, truth = scene.tokens[query + 1];
  const right = truth === undefined || rank < 1 ? "nothing follows" : `the truth ${quoted(truth)} has rank ${whole(rank)}, ${fixed(value_of(cells, "true_prob", point, query)!, 4)}`;
  return `At ${token} (${query}), ${name === "embed" ? "before the first layer" : `after ${name}`}: ${list}; ${right}. Entropy ${fixed(here!, 4)}, KL to the final ${fixed(value_of(cells, "kl", point, query)!, 4)} nats.`;
}

function hit(grid: Grid, x: number, y: number, scene: Scene): Hit | null {
  const i = Math.floor((x - grid.left) / grid.cell), point = Math.floor((y - grid.top) / grid.tall);
  if (i < 0 || i >= grid.n || y < 0 || y > grid.foot) return null;
  const query = first_column(scene, grid.n) + i;
  if (point < 0 || point >= grid.n_points) return { at: { query } };
  const pin = scene.options.pin as Pin | null, same = pin && pin.point === point && pin.query === query && pin.text === text_of(scene);
  return { at: { query }, spot: { point, query }, options: { point, pin: same ? null : { point, query, text: text_of(scene) } } };
}

function press(key: string, scene: Scene): Patch | null {
  const { point, query } = cell_at({ ...scene, spot: undefined }), last = points_of(scene).length - 1, end = scene.tokens.length - 1;
  const to: Record<string, [number, number]> = { ArrowLeft: [point, query - 1], ArrowRight: [point, query + 1], ArrowUp: [point - 1, query], ArrowDown: [point + 1, query], Home: [point, 0], End: [point, end] };
  if (key === "Enter" || key === " ") return { options: { pin: { point, query, text: text_of(scene) } } };
  if (!to[key]) return null;
  const at = Math.max(0, Math.min(end, to[key]![1]));
  return { options: { point: Math.max(0, Math.min(last, to[key]![0])) }, selection: at === query ? {} : { query: at, key: null } };
}

const controls = ({ options }: Scene): Control[] => [
  { kind: "choice", name: "colour", label: "colour", choices: [["top_probs", "probability"], ["entropy", "entropy"], ["kl", "KL to the final"]] },
  ...(options.pin ? [{ kind: "button", name: "unpin", label: "Unpin", set: { pin: null } } as Control] : []),
];

const lens: Panel<Grid> = {
  kind: "lens", name: "lens", half: fits_half,
  options: { colour: "top_probs", pin: null },
  slot: () => "below",
  heading: (scene) => ({ title: scene.view.title, subtitle: `${scene.view.subtitle} · a click pins a token and follows its rank` }),
  controls, layout, draw, mark, hit, press,
  stale: (scene) => `${first_column(scene, 1)} ${scene.selection.query} ${scene.detail_words} ${cells_of(scene)?.arrays.first?.values[0]}`,
  says: (scene) => `Logit lens. ${sentence(scene)} ${rank_words(followed(scene), points_of(scene))}`.trim(),
};

export const panels: Panel[] = [lens];
