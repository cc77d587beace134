// All heads as dots on one scale, with the band in which chance would leave the head that is looked at.
import { beats_null, chosen_score, score_named, scores_of, type Score } from "../head_scores.ts";
import { Pen } from "../paint.ts";
import type { Hit, Panel, Sized } from "../panel.ts";
import type { Scene } from "../scene.ts";
import { fixed, head_name, whole } from "../text.ts";

interface Strip extends Sized { left: number; wide: number; base: number; score: Score | null; most: number; dots: [number, number][]; n_head: number }

const radius = 4, most_stacked = 6, top = 22, ends = [0.05, 0.1, 0.2, 0.4, 1]; // above `top` the words of the band, below it the dots and the name of one

/** The score on the strip: the chosen one, or that of the looked-at head, or induction. */
function shown(scene: Scene): Score | null {
  const chosen = chosen_score(scene), all = scores_of(scene);
  const own = chosen === "stands_out" || chosen === "most" ? "induction" : chosen;
  return all && score_named(scene, own);
}

/** The end of the axis: no further than the dots and the bands reach, so that low scores lie apart. */
export function end_of(score: Score): number {
  const highest = Math.max(0, ...finite(score.value), ...finite(score.high));
  return score.name === "distance" ? Math.max(1, highest) : ends.find((end) => highest <= 0.98 * end) ?? 1;
}

/** Where a value stands on the axis; beyond an end, at the end. */
export const x_of = ({ left, wide, most }: Pick<Strip, "left" | "wide" | "most">, value: number): number => left + wide * Math.min(1, Math.max(0, value / most));

function layout(scene: Scene, width: number): Strip {
  const score = shown(scene), most = score ? end_of(score) : 1, left = 8, wide = Math.min(width, 640) - 24, base = 92, taken = new Map<number, number>();
  const dots = [...(score?.value ?? [])].map((value, at): [number, number] => {
    if (!Number.isFinite(value)) return [NaN, NaN];
    const x = x_of({ left, wide, most }, value), bin = Math.floor(x / (2 * radius)), above = taken.get(bin) ?? 0; // each at its value; those of a bin are stacked
    taken.set(bin, above + 1);
    return [x, base - 6 - Math.min(most_stacked, above) * 2 * radius];
  });
  return { width, height: 148, left, wide, base, score, most, dots, n_head: scene.pattern?.n_head ?? 1 };
}

function draw(ctx: CanvasRenderingContext2D, strip: Strip, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { left, wide, base, score } = strip;
  if (!score) return pen.text(scene.detail_words || scene.view.subtitle, 0, 18, { colour: scene.theme.ink_3 });
  if (score.value.every((value) => !Number.isFinite(value)))
    return pen.text(`No token of this text lets a head show ${score.words}.`, 0, 18, { colour: scene.theme.ink_3 });
  pen.line(left, base + 0.5, left + wide, base + 0.5, scene.theme.rule_2);
  for (let i = 0; i <= 4; i++) {
    const tick = (strip.most * i) / 4, x = left + (wide * i) / 4;
    pen.line(x, base, x, base + 4, scene.theme.rule_2);
    pen.text(strip.most > 2 ? fixed(tick, 1) : String(Number(tick.toFixed(4))), x, base + 18, { align: i === 0 ? "left" : i === 4 ? "right" : "center" });
  }
  pen.text(`${axis_of(score)} →${score.name === "entropy" ? "" : " · faint dots: within their own band"}`, left, base + 38);
  strip.dots.forEach(([x, y], i) => { if (Number.isFinite(x)) pen.dot(x, y, radius - 0.5, beats_null(score, i) ? scene.theme.ink_2 : scene.theme.rule_2); });
}

const axis_of = ({ name }: Score): string => (name === "distance" ? "tokens back" : name === "entropy" ? "share of an even head's entropy" : "share of attention");

/** Where chance leaves one head 19 times in 20; nothing where a score has no band. */
function draw_band(pen: Pen, strip: Strip, score: Score, at: number, name: string): void {
  const { left, wide, base } = strip, low = x_of(strip, score.low[at]!), high = x_of(strip, score.high[at]!);
  if (!Number.isFinite(low) || score.name === "entropy") return;
  pen.hatch((c) => c.rect(low, top, Math.max(2, high - low), base - top), low, top, Math.max(2, high - low), base - top, 4, pen.theme.rule_2);
  pen.line(high + 0.5, top - 2, high + 0.5, base, pen.theme.ink_3, 1, [3, 3]);
  const words = `hatched: ${name} by chance, 95 %`, room = high + 8 + pen.width(words) < left + wide;
  pen.text(words, room ? high + 6 : Math.max(high - 6, left + pen.width(words)), 14, { align: room ? "left" : "right", colour: pen.theme.ink_3 });
}

const finite = (values: Float32Array): number[] => [...values].filter(Number.isFinite);

function mark(ctx: CanvasRenderingContext2D, strip: Strip, scene: Scene): void {
  const { look, theme } = scene, at = look.layer * strip.n_head + look.head, [x, y] = strip.dots[at] ?? [NaN, NaN];
  if (!Number.isFinite(x)) return;
  const pen = new Pen(ctx, theme), own = head_name(look.layer, look.head), score = strip.score!, name = `${own} ${fixed(score.value[at]!, 3)}`;
  draw_band(pen, strip, score, at, own);
  const half = pen.width(name, { weight: 600 }) / 2;
  pen.dot(x, y, radius + 1.5, theme.accent);
  const middle = Math.max(half, Math.min(strip.width - half, x));
  const highest = Math.min(...strip.dots.filter(([dx]) => Math.abs(dx - middle) < half + 2 * radius).map(([, dy]) => dy)); // over the dots beside it
  pen.fill(middle - half - 2, highest - 21, 2 * half + 4, 14, theme.paper, 3);
  pen.text(name, middle, highest - 10, { align: "center", weight: 600, colour: theme.ink });
}

function hit(strip: Strip, x: number, y: number): Hit | null {
  let best = -1, near = 12;
  strip.dots.forEach(([dx, dy], i) => {
    const far = Math.hypot(x - dx, y - dy);
    if (far < near) { near = far; best = i; }
  });
  return best < 0 ? null : { at: { layer: Math.floor(best / strip.n_head), head: best % strip.n_head } };
}

/** Of a long text only the beginning is scored. */
const beginning = ({ view }: Scene): string => (view.content?.scored ? ` · first ${whole(view.content.scored)} tokens` : "");

/** How many heads are beyond their own band, and how many would be that know nothing. */
export function counted(score: Score): string {
  if (score.name === "entropy") return "1: attention is even";
  const of = [...score.value].filter(Number.isFinite).length, beyond = [...score.value].filter((_, at) => beats_null(score, at)).length, two = score.name === "distance";
  return `${beyond} of ${of} heads ${two ? "outside" : "above"} their band; by chance 1 in ${two ? 20 : 40}`;
}

const capital = (words: string) => words.slice(0, 1).toUpperCase() + words.slice(1);

const strip: Panel<Strip> = {
  kind: "head_scores", name: "scores", reads: ["heads"],
  slot: ({ place }) => (place.columns === 2 ? "right" : place.large ? "left" : "centre"), // where there is room
  heading(scene) {
    const score = shown(scene);
    if (!score) return { title: scene.view.title, subtitle: scene.view.subtitle };
    return { title: capital(`${score.words}${score.unit ? `, in${score.unit}` : " score"}`), subtitle: `${counted(score)}${beginning(scene)}` };
  },
  layout, draw, mark, hit,
  stale: (scene) => scene.detail_words || "here",
  says(scene) {
    const score = shown(scene), { look } = scene, at = look.layer * (scene.pattern?.n_head ?? 1) + look.head;
    if (!score) return scene.detail_words || scene.view.subtitle;
    return `${head_name(look.layer, look.head)}: ${score.words} ${fixed(score.value[at]!, 2)}${score.unit}, by chance ${fixed(score.low[at]!, 2)} to ${fixed(score.high[at]!, 2)}${beginning(scene)}.`;
  },
};

export const panels: Panel[] = [strip];
