// Guesses through training: a row for each step, right ones filled, wrong ones underlined with dots; the shown step is lit.
import { font, Pen } from "../paint.ts";
import type { Hit, Panel, Sized } from "../panel.ts";
import type { View } from "../payload.ts";
import { nearest, type Scene } from "../scene.ts";
import { ellipsis, fixed, quoted, whole } from "../text.ts";

interface Cell { x: number; w: number }
interface Table extends Sized { cells: Cell[]; first: number; top: number; bar: number; bar_width: number }
interface Said { steps: number[]; prompt: string; answer: string[]; judge: string }

const pitch = 28, tall = 22, mono = { mono: true, size: 13 } as const, from = 64;
const said = ({ view }: Pick<Scene, "view">): Said => view.content as Said;

/** Right ones and judged ones of a row. */
export function count(view: View, row: number): [number, number] {
  const { right } = view.arrays, n = right!.shape[1]!, own = Array.from(right!.values.subarray(row * n, (row + 1) * n));
  return [own.filter((one) => one === 1).length, own.filter((one) => one !== 2).length];
}

/** Whether anybody knows what is right. */
export const is_judged = (view: View): boolean => view.arrays.right!.values.some((one) => one !== 2);

/** The last columns that fit: each as wide as its widest word. */
function layout(scene: Scene, width: number): Table {
  const { view, theme, measure } = scene, { steps } = said(scene), n = view.arrays.guess!.shape[1]!, bar_width = width < 480 ? 0 : 64, room = width - from - bar_width - 84;
  const wide = Array.from({ length: n }, (_, at) => Math.min(96, Math.max(22, ...steps.map((_, row) => measure(word(view, row, at), font(theme, mono)) + 10))));
  let first = n, used = 0;
  while (first > 0 && used + wide[first - 1]! + 4 <= room) used += wide[--first]! + 4;
  let x = from;
  const cells = wide.slice(first).map((w) => { const cell = { x, w }; x += w + 4; return cell; });
  return { width, height: 64 + pitch * steps.length + 30, cells, first, top: 64, bar: x + 16, bar_width };
}

const word = (view: View, row: number, at: number): string => view.labels.word![view.arrays.guess!.values[row * view.arrays.guess!.shape[1]! + at]!]!;
const verdict = (view: View, row: number, at: number): number => view.arrays.right!.values[row * view.arrays.right!.shape[1]! + at]!;

function draw(ctx: CanvasRenderingContext2D, table: Table, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, measure } = scene, { prompt, answer, steps } = said(scene), label = { align: "right", colour: theme.ink_3 } as const;
  pen.text("after", from - 12, 14, label);
  const before = table.first ? `… ${table.first} before` : prompt, room = table.width - from;
  pen.text(before.length * 8 > room ? `…${before.slice(-Math.floor(room / 8) + 1)}` : before, from, 14, mono);
  if (is_judged(scene.view)) pen.text("right", from - 12, 44, label);
  table.cells.forEach(({ x, w }, i) => pen.text(ellipsis(answer[table.first + i] ?? "", w - 4, font(theme, mono), measure), x + w / 2, 44, { ...mono, align: "center", colour: theme.ink }));
  pen.text("step ↓", from - 12, 62, label);
  steps.forEach((_, row) => draw_row(pen, table, scene, row));
  if (!is_judged(scene.view)) return;
  name_counts(pen, table, scene.view);
  const y = table.height - 14;
  pen.fill(from, y - 11, 18, 14, theme.good_soft, 3); pen.line(from, y + 3.5, from + 18, y + 3.5, theme.good, 2);
  pen.text("right", from + 26, y);
  pen.line(from + 74, y + 2.5, from + 92, y + 2.5, theme.ink_3, 1.5, [1.5, 2.5]);
  pen.text(`wrong, says ${said(scene).judge}`, from + 100, y);
}

/** What the numbers beside the rows count: all judged guesses, also those of the columns that found no room. */
function name_counts(pen: Pen, table: Table, view: View): void {
  const hidden = hidden_of(view, table.first), { ink_3 } = pen.theme;
  pen.text("right, of all judged", table.bar, 44, { colour: ink_3 });
  if (hidden) pen.text(`${hidden} not drawn, at left`, table.bar, 60, { colour: ink_3 });
}

/** How many of the columns before the first drawn one are judged. */
export function hidden_of(view: View, first: number): number {
  const [rows] = view.arrays.right!.shape, judged = (at: number) => Array.from({ length: rows! }, (_, row) => verdict(view, row, at)).some((one) => one !== 2);
  return Array.from({ length: first }, (_, at) => at).filter(judged).length;
}

function draw_row(pen: Pen, table: Table, scene: Scene, row: number): void {
  const { theme, view, measure } = scene, y = table.top + row * pitch, [right, judged] = count(view, row);
  table.cells.forEach(({ x, w }, i) => {
    const at = table.first + i, here = verdict(view, row, at);
    if (here === 1) { pen.fill(x, y, w, tall, theme.good_soft, 3); pen.line(x, y + tall - 0.5, x + w, y + tall - 0.5, theme.good, 2); }
    else if (here === 0) pen.line(x + 2, y + tall - 1.5, x + w - 2, y + tall - 1.5, theme.ink_3, 1.5, [1.5, 2.5]);
    pen.text(ellipsis(word(view, row, at), w - 4, font(theme, mono), measure), x + w / 2, y + 16, { ...mono, align: "center", colour: theme.ink });
  });
  if (!is_judged(view)) return;
  if (table.bar_width) pen.bar(table.bar, y + 7, table.bar_width, 8, right / Math.max(1, judged), theme.good);
  pen.text(`${right} of ${judged}`, table.bar + (table.bar_width ? table.bar_width + 12 : 0), y + 16, { weight: 500 });
}

const row_of = (scene: Scene): number => { const { steps } = said(scene); return steps.indexOf(nearest(steps, scene.look.step)); };

function mark(ctx: CanvasRenderingContext2D, table: Table, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme } = scene, { steps } = said(scene), lit = row_of(scene);
  steps.forEach((step, row) => {
    const y = table.top + row * pitch, here = row === lit;
    if (here) pen.stroke(0.5, y - 2.5, Math.min(table.width, table.bar + table.bar_width + 72) - 1, pitch - 1, theme.accent, 1.5, 4);
    pen.text(whole(step), from - 12, y + 16, { align: "right", weight: here ? 600 : 400, colour: here ? theme.accent : theme.ink_2 });
  });
}

function hit(table: Table, _x: number, y: number, scene: Scene): Hit | null {
  const step = said(scene).steps[Math.floor((y - table.top + 3) / pitch)];
  return y < table.top - 3 || step === undefined ? null : { at: {}, drag: "row" };
}

const guesses: Panel<Table> = {
  kind: "guesses", name: "guesses", half: true,
  slot: () => "below",
  heading: ({ view }) => ({ title: view.title, subtitle: view.subtitle }),
  layout, draw, mark, hit,
  drag: (table, _, _x, y, scene) => { const { steps } = said(scene), row = Math.max(0, Math.min(steps.length - 1, Math.floor((y - table.top + 3) / pitch))); return { selection: { step: steps[row]! } }; },
  press(key, scene) {
    const { steps } = said(scene), at = row_of(scene), to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: steps.length - 1 }[key];
    return to === undefined ? null : { selection: { step: steps[Math.max(0, Math.min(steps.length - 1, to))]! } };
  },
  says(scene) {
    const { steps, answer, judge } = said(scene), row = row_of(scene), [right, judged] = count(scene.view, row), n = answer.length;
    const list = answer.map((_, at) => `${quoted(word(scene.view, row, at))}${verdict(scene.view, row, at) === 0 ? " wrong" : ""}`).slice(0, 12).join(", ");
    const score = is_judged(scene.view) ? `${right} of ${judged} guesses right, says ${judge}` : "guesses that nobody judges";
    return `Step ${steps[row]}: ${score}: ${list}${n > 12 ? " …" : ""}; mean probability ${fixed(mean(scene.view, row), 3)}.`;
  },
};

const mean = (view: View, row: number): number => { const { p } = view.arrays, n = p!.shape[1]!, own = Array.from(p!.values.subarray(row * n, (row + 1) * n)); return own.reduce((a, b) => a + b, 0) / n; };

export const panels: Panel[] = [guesses];
