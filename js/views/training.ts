// The loss curve with a playhead: the same steps as the slider.
import { Pen } from "../paint.ts";
import type { Hit, Panel, Patch, Sized } from "../panel.ts";
import type { View } from "../payload.ts";
import { nearest, type Scene } from "../scene.ts";
import { name_steps } from "../steps.ts";
import { fixed, whole } from "../text.ts";

interface Plot extends Sized { left: number; right: number; top: number; bottom: number; first: number; last: number; high: number; low: number; tick: number }
export interface Series { name: string; steps: ArrayLike<number>; values: ArrayLike<number> }

export const series_of = (view: View): Series[] =>
  view.labels.series!.map((name, i) => ({ name, steps: view.arrays[`steps_${i}`]!.values, values: view.arrays[`values_${i}`]!.values }));

/** The start of a run is where most happens: steps are spaced by log(1 + step / 20). */
export const log_step = (step: number): number => Math.log1p(step / 20);
export const step_of_log = (place: number): number => 20 * Math.expm1(place);

/** A running mean over `span` values each side; what is not finite stays out of it and stays visible. */
export function smooth(values: ArrayLike<number>, span: number): number[] {
  return Array.from(values, (own, i) => {
    if (!Number.isFinite(own)) return own;
    const reach = Math.min(span, i, values.length - 1 - i); // shrinks at the ends, or the ends would be pulled
    let total = 0, count = 0;
    for (let j = i - reach; j <= i + reach; j++) if (Number.isFinite(values[j]!)) { total += values[j]!; count++; }
    return total / count;
  });
}

const span_of = (n: number) => (n > 150 ? Math.round(n / 80) : 0);

export function at_step(one: Series, step: number): number | null {
  let best = -1;
  for (let i = 0; i < one.steps.length && one.steps[i]! <= step; i++) best = i;
  return best < 0 ? null : one.values[best]!;
}

function layout(scene: Scene, width: number): Plot {
  const all = series_of(scene.view), steps = [...all.flatMap((one) => Array.from(one.steps)), ...scene.board.steps];
  const values = all.flatMap((one) => Array.from(one.values)).filter(Number.isFinite);
  const high = values.reduce((a, b) => Math.max(a, b), 0), low = values.reduce((a, b) => Math.min(a, b), 0);
  const tick = [0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100].find((one) => (high - low) / one <= 4.5) ?? Math.max(1, (high - low) / 4);
  return { width, height: 250, left: 56, right: width - (width < 560 ? 12 : 152), top: width < 560 ? 40 : 16, bottom: 170, tick,
           first: steps.reduce((a, b) => Math.min(a, b), Infinity), last: steps.reduce((a, b) => Math.max(a, b), 0),
           high: Math.max(Math.ceil(high / tick) * tick, tick), low: Math.floor(low / tick) * tick };
}

const x_of = (plot: Plot, step: number) =>
  plot.left + ((log_step(step) - log_step(plot.first)) / (log_step(plot.last) - log_step(plot.first) || 1)) * (plot.right - plot.left);
const y_of = (plot: Plot, value: number) => plot.bottom - ((value - plot.low) / (plot.high - plot.low)) * (plot.bottom - plot.top);

function draw(ctx: CanvasRenderingContext2D, plot: Plot, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme } = scene;
  const digits = plot.tick < 0.1 ? 2 : plot.tick < 1 ? 1 : 0;
  for (let value = plot.low; value <= plot.high + plot.tick / 2; value += plot.tick) {
    const y = Math.round(y_of(plot, value)) + 0.5;
    pen.line(plot.left, y, plot.right, y, value > plot.low ? theme.rule : theme.rule_2);
    pen.text(fixed(value, digits), plot.left - 8, y + 4, { align: "right" });
  }
  series_of(scene.view).forEach((one, i) => draw_series(pen, plot, one, i, theme.series[i % 4]!));
  draw_names(pen, plot, scene);
  draw_rail(pen, plot, scene);
}

function draw_series(pen: Pen, plot: Plot, one: Series, index: number, colour: string): void {
  const { ctx } = pen, span = span_of(one.steps.length);
  if (span) { ctx.globalAlpha = 0.35; curve(pen, plot, one.steps, one.values, colour, 1); ctx.globalAlpha = 1; }
  curve(pen, plot, one.steps, span ? smooth(one.values, span) : one.values, colour, 2, index >= 1 ? [6, 3] : []);
  for (let i = 0, last = -99; i < one.steps.length; i++) {
    const x = x_of(plot, one.steps[i]!), value = one.values[i]!;
    if (!Number.isFinite(value)) pen.text("×", x, plot.top + 10, { align: "center", weight: 600, colour: pen.theme.ink });
    else if (!span && x - last >= 22) { marker(pen, index, x, y_of(plot, value), colour); last = x; }
  }
}

function curve(pen: Pen, plot: Plot, steps: ArrayLike<number>, values: ArrayLike<number>, colour: string, width: number, dash: number[] = []): void {
  let part: [number, number][] = [];
  for (let i = 0; i <= steps.length; i++) {
    if (i < steps.length && Number.isFinite(values[i]!)) { part.push([x_of(plot, steps[i]!), y_of(plot, values[i]!)]); continue; }
    if (part.length > 1) pen.path(part, colour, width, dash); // a gap where the loss was not a number
    part = [];
  }
}

/** Series are told apart by shape: circle, diamond, triangle, square. */
export function marker(pen: Pen, index: number, x: number, y: number, colour: string): void {
  const { ctx } = pen, r = 3.5;
  ctx.beginPath();
  if (index % 4 === 0) ctx.arc(x, y, r, 0, 2 * Math.PI);
  else if (index % 4 === 1) { ctx.moveTo(x, y - r - 1); ctx.lineTo(x + r + 1, y); ctx.lineTo(x, y + r + 1); ctx.lineTo(x - r - 1, y); }
  else if (index % 4 === 2) { ctx.moveTo(x, y - r - 1); ctx.lineTo(x + r + 1, y + r); ctx.lineTo(x - r - 1, y + r); }
  else ctx.rect(x - r, y - r, 2 * r, 2 * r);
  ctx.closePath(); ctx.fillStyle = pen.theme.paper; ctx.fill(); ctx.strokeStyle = colour; ctx.lineWidth = 1.5; ctx.stroke();
}

/** Each series by name at its right end, kept 18 px apart; above the chart where there is no room at the right. */
function draw_names(pen: Pen, plot: Plot, scene: Scene): void {
  const all = series_of(scene.view).map((one, i) => ({ ...one, i, end: one.values[one.values.length - 1]! }));
  const narrow = plot.width < 560;
  let x = plot.left;
  const ends = all.map((one) => ({ ...one, y: Number.isFinite(one.end) ? y_of(plot, one.end) : plot.top })).sort((a, b) => a.y - b.y);
  ends.forEach((one, n) => { if (n && one.y - ends[n - 1]!.y < 18) one.y = ends[n - 1]!.y + 18; });
  const over = Math.max(0, (ends.at(-1)?.y ?? 0) - plot.bottom);
  for (const { name, i, end, y } of ends) {
    const colour = pen.theme.series[i % 4]!, words = `${name} ${fixed(end, Math.abs(end) < 0.1 ? 4 : 2)}`, at = narrow ? x : plot.right + 16, line = narrow ? 14 : y - over;
    marker(pen, i, at + 4, line, colour);
    pen.text(words, at + 14, line + 4, { colour, weight: 500 });
    x += 30 + pen.width(words, { weight: 500 });
  }
}

const rail = 206;

function draw_rail(pen: Pen, plot: Plot, scene: Scene): void {
  const { theme, board } = scene;
  pen.text("step →", plot.left - 8, rail + 4, { align: "right" });
  pen.line(plot.left, rail, plot.right, rail, theme.rule_2, 2);
  for (const step of board.steps) pen.line(Math.round(x_of(plot, step)) + 0.5, rail + 6, Math.round(x_of(plot, step)) + 0.5, rail + 12, theme.rule_2);
}

/** Numbers under the rail. */
function draw_ticks(pen: Pen, plot: Plot, { look, board }: Scene): void {
  name_steps(pen, { ...plot, y: rail + 28, x_of: (step) => x_of(plot, step) }, board.steps.length ? look.step : null);
}

function mark(ctx: CanvasRenderingContext2D, plot: Plot, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, look, board } = scene;
  draw_ticks(pen, plot, scene);
  if (!board.steps.length) return;
  const x = Math.round(x_of(plot, look.step)) + 0.5;
  pen.line(plot.left, rail, x, rail, theme.accent, 3);
  pen.line(x, plot.top - 6, x, rail, theme.accent, 1.5);
  const values = series_of(scene.view).map((one) => ({ name: one.name, value: at_step(one, look.step) }));
  for (const { value } of values) if (value != null && Number.isFinite(value)) { pen.dot(x, y_of(plot, value), 5, theme.paper); pen.dot(x, y_of(plot, value), 3.5, theme.accent); }
  pen.dot(x, rail, 9, theme.paper); pen.dot(x, rail, 7, theme.accent);
  readout(pen, plot, x, scene, values);
}

/** The values at the step, beside its line: at the top, or at the bottom where the box would cover a curve. */
function readout(pen: Pen, plot: Plot, x: number, { view, look: { step } }: Scene, values: { name: string; value: number | null }[]): void {
  const { theme } = pen, known = values.filter((one) => one.value != null), lines = known.map((one) => `${one.name} ${fixed(one.value!, 4)}`);
  const w = Math.max(...[`step ${whole(step)}`, ...lines].map((words) => pen.width(words, { weight: 600 }))) + 20, h = 24 + 17 * lines.length;
  const left = x + 12 + w > plot.right ? x - 12 - w : x + 12;
  const covers = (top: number) => series_of(view).some(({ steps, values }) => Array.from(steps).some((at, i) => {
    const [px, py] = [x_of(plot, at), y_of(plot, values[i]!)];
    return px > left - 8 && px < left + w + 8 && py > top - 4 && py < top + h + 4;
  }));
  const above = plot.top - 4.5, below = Math.round(plot.bottom - h) - 7.5, y = covers(above) && !covers(below) ? below : above;
  pen.fill(left, y, w, h, theme.paper, 4); pen.stroke(Math.round(left) + 0.5, y, w, h, theme.rule_2, 1, 4);
  pen.text(`step ${whole(step)}`, left + 10, y + 17, { weight: 600, colour: theme.ink });
  lines.forEach((words, i) => pen.text(words, left + 10, y + 34 + 17 * i));
}

function step_at(plot: Plot, x: number, scene: Scene): number {
  const share = Math.max(0, Math.min(1, (x - plot.left) / (plot.right - plot.left)));
  const wish = log_step(plot.first) + share * (log_step(plot.last) - log_step(plot.first));
  return scene.board.steps.reduce((best, step) => (Math.abs(log_step(step) - wish) < Math.abs(log_step(best) - wish) ? step : best), nearest(scene.board.steps, 0));
}

function hit(plot: Plot, x: number, y: number, scene: Scene): Hit | null {
  if (!scene.board.steps.length || x < plot.left - 12 || x > plot.right + 12 || y > rail + 20) return null;
  return { at: {}, drag: "step" };
}

const drag = (plot: Plot, _: Hit, x: number, _y: number, scene: Scene): Patch => ({ selection: { step: step_at(plot, x, scene) } });

/** One recorded step on or back, or to either end. */
export function walk_steps(key: string, { board, look }: Pick<Scene, "board" | "look">): Patch | null {
  const last = board.steps.length - 1, now = board.steps.indexOf(nearest(board.steps, look.step));
  const to: Record<string, number> = {
    ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1, PageDown: now - 5, PageUp: now + 5, Home: 0, End: last,
  };
  return key in to && last >= 0 ? { selection: { step: board.steps[Math.max(0, Math.min(last, to[key]!))]! } } : null;
}

const curve_panel: Panel<Plot> = {
  kind: "training", name: "loss",
  slot: () => "below",
  heading: ({ view }) => ({ title: view.title, subtitle: [view.subtitle, ...(series_of(view).some((one) => span_of(one.steps.length)) ? ["thin: measured, thick: running mean"] : []), view.content?.thinned ?? []].flat().join(" · ") }),
  layout, draw, mark, hit, drag, press: walk_steps,
  says({ view, look }) {
    const values = series_of(view).map((one) => `${one.name} ${fixed(at_step(one, look.step) ?? NaN, 4)}`).join(", ");
    return `Step ${look.step}: ${values} ${view.subtitle}.`;
  },
};

export const panels: Panel[] = [curve_panel];
