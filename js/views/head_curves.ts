// The scores of the heads through training, on the loss panel's axis of steps: those that stand out, or one score of all heads.
import { Pen } from "../paint.ts";
import type { Control, Hit, Panel, Patch, Sized } from "../panel.ts";
import type { View } from "../payload.ts";
import { nearest, type Scene } from "../scene.ts";
import { name_steps } from "../steps.ts";
import { fixed, head_name, whole } from "../text.ts";
import { ends } from "./events.ts";
import { at_step, log_step, marker, step_of_log, walk_steps, type Series } from "./training.ts";

export interface Curve extends Series { score: number; layer: number; head: number }
interface Plot extends Sized { left: number; right: number; top: number; bottom: number; first: number; last: number; shown: Curve[]; quiet: Curve[] }

const most_named = 4, reach = 8; // px within which a curve is pointed at
const clearest = "stands_out";

/** One head's curve of one score. */
export function curve_of(view: View, score: number, layer: number, head: number): Curve {
  const { values, shape } = view.arrays[`value_${score}`]!, [n, n_layer, n_head] = shape as [number, number, number];
  const own = Float32Array.from({ length: n }, (_, i) => values[(i * n_layer + layer) * n_head + head]!);
  return { name: `${view.labels.short![score]} ${head_name(layer, head)}`, score, layer, head, steps: view.arrays[`steps_${score}`]!.values, values: own };
}

const last_of = ({ values }: Series): number => values[values.length - 1] ?? NaN;
/** The place of a curve among others: what ended in NaN, as in a run that diverged, goes below all. */
const height_of = (one: Series): number => (Number.isFinite(last_of(one)) ? last_of(one) : -1);
/** Which curves say most: the highest at the end, but of entropy, which is 1 while attention is even, the lowest. */
const clarity_of = (one: Curve, name: string): number => (!Number.isFinite(last_of(one)) ? -1 : name === "entropy" ? 1 - last_of(one) : last_of(one));

/** The curves in colour, and those behind them in grey: the ones that stand out, or of a score the clearest at the end. */
export function curves_of(view: View, chosen: string): { shown: Curve[]; quiet: Curve[] } {
  const out = view.arrays.stands_out!.values, none = chosen === clearest && !out.length;
  const score = view.labels.score!.indexOf(none ? moves_first(view) : chosen);
  if (score < 0) return { shown: Array.from({ length: out.length / 3 }, (_, i) => curve_of(view, out[3 * i]!, out[3 * i + 1]!, out[3 * i + 2]!)), quiet: [] };
  const [, n_layer, n_head] = view.arrays[`value_${score}`]!.shape as [number, number, number];
  const all = Array.from({ length: n_layer * n_head }, (_, i) => curve_of(view, score, Math.floor(i / n_head), i % n_head)).sort((a, b) => clarity_of(b, chosen) - clarity_of(a, chosen));
  return none ? { shown: [], quiet: all } : { shown: all.slice(0, most_named), quiet: all.slice(most_named) };
}

/** What is shown of all heads, in grey and without names, as long as none stands out: entropy, or the first score. */
const moves_first = (view: View): string => view.labels.score!.find((name) => name === "entropy") ?? view.labels.score![0]!;
/** At how many steps a score was compared with chance: never in a run that observed nothing, and entropy never is. */
const n_compared = (arrays: View["arrays"], score: number): number => Array.from(arrays[`null_${score}`]!.values).filter(Number.isFinite).length;
/** Why no curve has a name: a run that observed nothing has no chance to compare with. */
const none_stands_out = ({ arrays, labels }: View): string =>
  labels.score!.some((_, score) => n_compared(arrays, score)) ? "no head stands out yet" : "not compared with chance in this run";
const chosen_of = ({ options }: Pick<Scene, "options">): string => options.score ?? clearest;

function layout(scene: Scene, width: number): Plot {
  const { shown, quiet } = curves_of(scene.view, chosen_of(scene)), [first, last] = ends(scene), narrow = width < 560;
  const names = narrow ? 18 * shown.length : 0; // in rows above the chart where there is no room at the right
  return { width, height: 196 + names, left: 56, right: width - (narrow ? 12 : 152), top: 12 + names, bottom: 152 + names, first, last, shown, quiet };
}

const x_of = (plot: Plot, step: number) =>
  plot.left + ((log_step(step) - log_step(plot.first)) / (log_step(plot.last) - log_step(plot.first) || 1)) * (plot.right - plot.left);
const y_of = (plot: Plot, value: number) => plot.bottom - Math.min(1, Math.max(0, value)) * (plot.bottom - plot.top);

function draw(ctx: CanvasRenderingContext2D, plot: Plot, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme } = scene;
  for (const value of [0, 0.5, 1]) {
    const y = Math.round(y_of(plot, value)) + 0.5;
    pen.line(plot.left, y, plot.right, y, value ? theme.rule : theme.rule_2);
    pen.text(String(value), plot.left - 8, y + 4, { align: "right" });
  }
  draw_null(pen, plot, scene.view);
  for (const one of plot.quiet) line(pen, plot, one, theme.rule_2, 1);
  plot.shown.forEach((one, i) => line(pen, plot, one, colour_of(plot, i, theme.series), 2, dash_of(plot, i)));
  plot.shown.forEach((one, i) => mark_ends(pen, plot, one, i));
  draw_names(pen, plot);
  if (!plot.shown.length) name_all(pen, plot, scene.view);
}

/** What the grey curves are, where none has a name, and between which values they end. */
function name_all(pen: Pen, plot: Plot, view: View): void {
  const ends = plot.quiet.map(last_of).filter(Number.isFinite), [low, high] = [Math.min(...ends), Math.max(...ends)], narrow = plot.width < 560;
  if (!plot.quiet.length) return;
  const words = [`${view.labels.words![plot.quiet[0]!.score]}, all heads`, ends.length ? `${fixed(low, 2)} to ${fixed(high, 2)}` : "NaN"];
  const y = ends.length ? y_of(plot, (low + high) / 2) : plot.bottom;
  if (narrow) return pen.text(words.join(" "), plot.left + 4, y + 18);
  words.forEach((line, i) => pen.text(line, plot.right + 12, y + 4 + 17 * i));
}

const kinds = (plot: Pick<Plot, "shown">): number[] => [...new Set(plot.shown.map((one) => one.score))];
/** Colour and marker go with the score where there are several, else with the head; a second one of a kind is dashed. */
const place_of = (plot: Plot, i: number): number => (kinds(plot).length > 1 ? kinds(plot).indexOf(plot.shown[i]!.score) : i);
const colour_of = (plot: Plot, i: number, series: string[]): string => series[place_of(plot, i) % series.length]!;
const dash_of = (plot: Plot, i: number): number[] => (plot.shown.slice(0, i).some((_, j) => place_of(plot, j) === place_of(plot, i)) ? [6, 3] : []);

function line(pen: Pen, plot: Plot, one: Series, colour: string, width: number, dash: number[] = []): void {
  let part: [number, number][] = [];
  for (let i = 0; i <= one.steps.length; i++) {
    if (i < one.steps.length && Number.isFinite(one.values[i]!)) { part.push([x_of(plot, one.steps[i]!), y_of(plot, one.values[i]!)]); continue; }
    if (part.length > 1) pen.path(part, colour, width, dash); // a gap where nothing was measured
    part = [];
  }
}

function mark_ends(pen: Pen, plot: Plot, one: Curve, i: number): void {
  const place = place_of(plot, i), colour = colour_of(plot, i, pen.theme.series);
  for (const share of [0.4, 0.75]) { // of the width: the steps are not even
    const wish = plot.left + share * (plot.right - plot.left), at = Array.from(one.steps).reduce((best, step, j) => (Math.abs(x_of(plot, step) - wish) < Math.abs(x_of(plot, one.steps[best]!) - wish) ? j : best), 0);
    if (Number.isFinite(one.values[at]!)) marker(pen, place, x_of(plot, one.steps[at]!), y_of(plot, one.values[at]!), colour);
  }
}

/** Whether a band of chance is drawn: from one step to another. */
const has_null = (plot: Pick<Plot, "shown">, view: View): boolean => kinds(plot).some((score) => n_compared(view.arrays, score) > 1);

/** The hatched band under the largest null of the scores that are drawn. */
function draw_null(pen: Pen, plot: Plot, view: View): void {
  for (const score of kinds(plot)) {
    const steps = view.arrays[`steps_${score}`]!.values, high = view.arrays[`null_${score}`]!.values;
    const top: [number, number][] = Array.from(steps, (step, i): [number, number] => [x_of(plot, step), y_of(plot, high[i]!)]).filter(([, y]) => Number.isFinite(y));
    if (top.length < 2) continue;
    const [left, right] = [top[0]![0], top.at(-1)![0]], low = plot.bottom;
    pen.hatch((c) => { c.moveTo(left, low); for (const [x, y] of top) c.lineTo(x, y); c.lineTo(right, low); c.closePath(); }, left, plot.top, right - left, low - plot.top, 5, pen.theme.rule_2);
    pen.path(top, pen.theme.rule_2, 1, [3, 3]);
  }
}

/** Each curve by name and last value, kept 18 px apart: at the right end, or above the chart. */
function draw_names(pen: Pen, plot: Plot): void {
  const named = plot.shown.map((one, i) => ({ one, i, y: y_of(plot, height_of(one)) })).sort((a, b) => a.y - b.y);
  named.forEach((row, n) => { if (n && row.y - named[n - 1]!.y < 18) row.y = named[n - 1]!.y + 18; });
  const over = Math.max(0, (named.at(-1)?.y ?? 0) - plot.bottom), narrow = plot.width < 560;
  named.forEach(({ one, i, y }, n) => {
    const colour = colour_of(plot, i, pen.theme.series), x = narrow ? plot.left : plot.right + 8, at = narrow ? 6 + 18 * n : y - over;
    marker(pen, place_of(plot, i), x + 4, at, colour);
    pen.text(one.name, x + 14, at + 4, { colour, weight: 500 });
    pen.text(fixed(last_of(one), 2), x + 20 + pen.width(one.name, { weight: 500 }), at + 4, { colour, weight: 600 });
  });
}

function mark(ctx: CanvasRenderingContext2D, plot: Plot, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, look, board } = scene;
  const own = [...plot.shown, ...plot.quiet].filter((one) => one.layer === look.layer && one.head === look.head);
  for (const one of own) line(pen, plot, one, theme.ink, 2.5);
  ticks(pen, plot, scene);
  if (!board.steps.length) return;
  const x = Math.round(x_of(plot, look.step)) + 0.5;
  pen.line(x, plot.top - 4, x, plot.bottom + 6, theme.accent, 1.5);
  for (const one of new Set([...plot.shown, ...own])) {
    const value = at_step(one, look.step);
    if (value == null || !Number.isFinite(value)) continue;
    pen.dot(x, y_of(plot, value), 5, theme.paper); pen.dot(x, y_of(plot, value), 3.5, theme.accent);
  }
  pen.text(own.length ? `${head_name(look.layer, look.head)} at step ${whole(look.step)}: ${own.map((one) => `${scene.view.labels.words![one.score]} ${fixed(at_step(one, look.step) ?? NaN, 4)}`).join(", ")}` : "", plot.left, plot.bottom + 40, { colour: theme.ink });
}

function ticks(pen: Pen, plot: Plot, { look, board }: Scene): void {
  pen.text("step →", plot.left - 14, plot.bottom + 20, { align: "right" });
  name_steps(pen, { ...plot, y: plot.bottom + 20, x_of: (step) => x_of(plot, step) }, board.steps.length ? look.step : null);
}

function step_at(plot: Plot, x: number, { board }: Scene): number {
  const share = Math.max(0, Math.min(1, (x - plot.left) / (plot.right - plot.left))), wish = log_step(plot.first) + share * (log_step(plot.last) - log_step(plot.first));
  return board.steps.reduce((best, step) => (Math.abs(log_step(step) - wish) < Math.abs(log_step(best) - wish) ? step : best), nearest(board.steps, 0));
}

/** The curve under the mouse, or a name at the right; a coloured one before a grey one. */
function hit(plot: Plot, x: number, y: number, scene: Scene): Hit | null {
  if (x < plot.left - 12 || x > plot.width || y > plot.bottom + 28) return null;
  const far = (one: Curve) => { const value = at_step(one, step_of_log(log_step(plot.first) + ((x - plot.left) / (plot.right - plot.left)) * (log_step(plot.last) - log_step(plot.first)))); return value == null ? Infinity : Math.abs(y_of(plot, value) - y); };
  const best = [...plot.shown, ...plot.quiet].map((one) => ({ one, far: far(one) })).sort((a, b) => a.far - b.far)[0];
  if (best && best.far <= reach) return { at: { layer: best.one.layer, head: best.one.head } };
  return scene.board.steps.length && x <= plot.right + 12 ? { at: {}, drag: "step" } : null;
}

const drag = (plot: Plot, _: Hit, x: number, _y: number, scene: Scene): Patch => ({ selection: { step: step_at(plot, x, scene) } });

const controls = ({ view }: Scene): Control[] => [{
  kind: "choice", name: "score", label: "show",
  choices: [[clearest, "what stands out"], ...view.labels.score!.map((name, i): [string, string] => [name, view.labels.words![i]!])],
}];

const curves: Panel<Plot> = {
  kind: "head_curves", name: "curves", options: { score: clearest },
  slot: () => "below",
  heading(scene) {
    const { view } = scene, curves = curves_of(view, chosen_of(scene)), more = curves.shown.length ? [] : [none_stands_out(view)];
    if (has_null(curves, view)) more.push("hatched: 97.5 % of chance is below, for every head");
    return { title: view.title, subtitle: [view.subtitle, ...more, "click a curve to look at its head"].join(" · ") };
  },
  controls, layout, draw, mark, hit, drag, press: walk_steps,
  says(scene) {
    const { shown } = curves_of(scene.view, chosen_of(scene));
    return `Step ${whole(scene.look.step)}: ${shown.map((one) => `${one.name} ${fixed(at_step(one, scene.look.step) ?? NaN, 2)}`).join(", ") || none_stands_out(scene.view)}.`;
  },
};

export const panels: Panel[] = [curves];
