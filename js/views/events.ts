// What happened while it learned: marks on the same axis of steps as the loss, each with its evidence.
import { font, Pen } from "../paint.ts";
import type { Hit, Panel, Patch, Sized } from "../panel.ts";
import type { Scene } from "../scene.ts";
import { name_steps } from "../steps.ts";
import { wrap, whole } from "../text.ts";
import { series_of, log_step } from "./training.ts";

export interface Event { step: number; name: string; title: string; short: string; layer: number | null; head: number | null; evidence: string; false_if: string }
/** A mark; its words stand in a row of their own, or only appear when it is pointed at. */
interface Mark { event: Event; x: number; row: number }
interface Line extends Sized { left: number; right: number; rail: number; first: number; last: number; x_of(step: number): number; marks: Mark[] }

const rows_at_most = 4, row_height = 36, lift = 14, box = 92, below = 20; // lift: the marks under the words; below: the numbers of the steps

export const events_of = ({ view }: Pick<Scene, "view">): Event[] => view.content?.events ?? [];

/** First and last step of the loss panel's axis, or of what there is without one. */
export function ends(scene: Pick<Scene, "views" | "view" | "board">): [number, number] {
  const curve = scene.views.find((one) => one.kind === "training");
  const steps = [...(curve ? series_of(curve).flatMap((one) => Array.from(one.steps)) : events_of(scene).map((one) => one.step)), ...scene.board.steps];
  return [steps.reduce((a, b) => Math.min(a, b), Infinity), steps.reduce((a, b) => Math.max(a, b), 0)];
}

/** Each mark gets the first row in which its words do not touch those before; -1 where all are taken. */
export function rows(at: number[], widths: number[], right: number): number[] {
  const free = Array<number>(rows_at_most).fill(-Infinity);
  return at.map((x, i) => {
    const from = Math.min(x, right - widths[i]!), row = free.findIndex((end) => from >= end);
    if (row >= 0) free[row] = from + widths[i]! + 16;
    return row;
  });
}

function layout(scene: Scene, width: number): Line {
  const left = 56, right = width - (width < 560 ? 12 : 152), [first, last] = ends(scene), list = events_of(scene);
  const x_of = (step: number) => left + ((log_step(step) - log_step(first)) / (log_step(last) - log_step(first) || 1)) * (right - left);
  const bold = font(scene.theme, { weight: 600 }), plain = font(scene.theme);
  const at = list.map((one) => x_of(one.step));
  const places = rows(at, list.map((one) => 12 + Math.max(scene.measure(one.title, bold), scene.measure(one.short, plain))), width);
  const rail = 8 + lift + (1 + Math.max(0, ...places)) * row_height;
  return { width, height: rail + 24 + (list.length ? box + below : 0), left, right, rail, first, last, x_of, marks: list.map((event, i) => ({ event, x: at[i]!, row: places[i]! })) };
}

function draw(ctx: CanvasRenderingContext2D, line: Line, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme } = scene;
  if (!line.marks.length) return pen.text("No event so far. Heads, gain, neurons and loss are looked at whenever the run is recorded.", 0, line.rail, { size: 13, colour: theme.ink_3 });
  pen.text("step →", line.left - 8, line.rail + 4, { align: "right" });
  pen.line(line.left, line.rail, line.right, line.rail, theme.rule_2, 2);
  for (const mark of line.marks) {
    triangle(pen, mark.x, line.rail, theme.ink);
    if (mark.row < 0) continue;
    const y = line.rail - lift - (mark.row + 1) * row_height, wide = Math.max(pen.width(mark.event.title, { weight: 600 }), pen.width(mark.event.short));
    const x = Math.min(mark.x + 6, line.width - wide);
    pen.line(Math.round(mark.x) + 0.5, y + 2, Math.round(mark.x) + 0.5, line.rail - 10, theme.rule_2, 1, [2, 3]);
    pen.text(mark.event.title, x, y + 10, { weight: 600, colour: theme.ink });
    pen.text(mark.event.short, x, y + 25);
  }
}

function triangle(pen: Pen, x: number, rail: number, colour: string): void {
  const { ctx } = pen;
  ctx.beginPath(); ctx.moveTo(x - 5, rail - 10); ctx.lineTo(x + 5, rail - 10); ctx.lineTo(x, rail - 2); ctx.closePath();
  ctx.fillStyle = colour; ctx.fill();
}

/** Under the mouse, else the newest one at or before the step that is looked at. */
function told(line: Line, scene: Scene): Mark | null {
  const pointed = line.marks[scene.spot as number];
  return pointed ?? line.marks.filter((mark) => mark.event.step <= scene.look.step).at(-1) ?? null;
}

function mark(ctx: CanvasRenderingContext2D, line: Line, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, measure } = scene, one = told(line, scene);
  if (line.marks.length) name_steps(pen, { ...line, y: line.rail + 20 }, scene.board.steps.length ? scene.look.step : null);
  if (!one) return;
  triangle(pen, one.x, line.rail, theme.accent);
  pen.dot(one.x, line.rail, 3.5, theme.accent);
  const y = line.rail + 28 + below, plain = font(theme, { size: 13 });
  pen.text(`step ${whole(one.event.step)} · ${one.event.title}`, 0, y, { weight: 600, colour: theme.ink, size: 13 });
  const said = wrap(one.event.evidence, line.width, plain, measure).slice(0, 2), other = wrap(one.event.false_if, line.width, plain, measure).slice(0, 2);
  said.forEach((words, i) => pen.text(words, 0, y + 19 + 17 * i, { size: 13 }));
  other.forEach((words, i) => pen.text(words, 0, y + 19 + 17 * (said.length + i), { size: 13, colour: theme.ink_3 }));
}

function hit(line: Line, x: number, y: number, scene: Scene): Hit | null {
  if (y > line.rail + 12) return null;
  const reach = (one: Mark) => (one.row >= 0 && y < line.rail - 12 ? inside_words(line, one, x, y, scene) : Math.abs(one.x - x));
  const best = line.marks.map((one, i) => ({ i, far: reach(one) })).sort((a, b) => a.far - b.far)[0];
  if (!best || best.far > 10) return null;
  return { at: place(line.marks[best.i]!.event), spot: best.i };
}

function inside_words(line: Line, one: Mark, x: number, y: number, scene: Scene): number {
  const top = line.rail - lift - (one.row + 1) * row_height, wide = scene.measure(one.event.title, font(scene.theme, { weight: 600 }));
  const from = Math.min(one.x, line.width - wide);
  return y >= top && y < top + row_height && x >= from - 4 && x <= from + wide + 8 ? 0 : Infinity;
}

/** Where an event leads: its step, and its head if it has one. */
function place({ step, layer, head }: Event): NonNullable<Patch["selection"]> {
  return layer != null && head != null ? { step, layer, head } : { step };
}

/** The event before or after the step that is looked at. */
export function next_event(key: string, events: Event[], step: number): Patch | null {
  const back = ["ArrowLeft", "ArrowUp"].includes(key), on = ["ArrowRight", "ArrowDown"].includes(key);
  const found = back ? events.filter((one) => one.step < step).at(-1) : on ? events.find((one) => one.step > step) : key === "Home" ? events[0] : key === "End" ? events.at(-1) : undefined;
  return found ? { selection: place(found) } : null;
}

const timeline: Panel<Line> = {
  kind: "events", name: "events",
  slot: () => "below",
  heading: ({ view }) => ({ title: view.title, subtitle: view.subtitle }),
  layout, draw, mark, hit,
  press: (key, scene) => next_event(key, events_of(scene), scene.look.step),
  says(scene) {
    const list = events_of(scene);
    return list.length ? `${list.length} events: ${list.map((one) => `step ${one.step} ${one.title}, ${one.short}`).join("; ")}.` : "No event so far.";
  },
};

export const panels: Panel[] = [timeline];
