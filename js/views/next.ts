// The next token under temperature, top-k and top-p; and a tree of continuations that the kernel grows.
import { draw_bars, pitch, says_after, truth_words, type Bar } from "../bars.ts";
import { font, Pen } from "../paint.ts";
import type { Control, Hit, Panel, Patch, Sized } from "../panel.ts";
import { draw_after, type Settings } from "../sampling.ts";
import type { Scene } from "../scene.ts";
import { ellipsis, fixed, precise, quoted, short, whole, wrap } from "../text.ts";
import { deepest, per_request, Tree, type Node, type Step } from "../tree.ts";
import { choices } from "./after.ts";

const most = 8;
const settings_of = ({ options }: Scene): Settings => options as unknown as Settings;
const neutral = { temperature: 1, top_k: 0, top_p: 1 };
const is_neutral = ({ temperature, top_k, top_p }: Settings): boolean => temperature === 1 && top_k === 0 && top_p >= 1;
const n_vocab = ({ view }: Pick<Scene, "view">): number => Number(view.content?.n_vocab ?? 0);

/** The bars, the words about the truth and about what is drawn from; without logits what came with the text. */
export function bars_of(scene: Scene): { bars: Bar[]; truth: string; notes: string[] } {
  const { detail, tokens, look } = scene, settings = settings_of(scene), next = tokens[look.query + 1];
  if (!detail) {
    const why = is_neutral(settings) ? scene.detail_words : `these settings need the logits: ${scene.detail_words}`;
    return { bars: choices(scene), truth: next === undefined ? "the text ends here" : "", notes: [why] };
  }
  const drawn = draw_after(detail, settings), place = detail.arrays.truth!.values[0]!, all = n_vocab(scene);
  const bars = detail.labels.word!.slice(0, most).map((word, i) => ({ word, p: drawn.p(i), true: i === place, out: drawn.p(i) === 0 }));
  const own = draw_after(detail, neutral).truth, rank = place < 0 ? 0 : 1 + detail.arrays.logits!.values.findIndex((logit) => logit <= detail.arrays.truth_logit!.values[0]!);
  const drawn_truth = is_neutral(settings) || drawn.truth === null ? "" : drawn.truth === 0 ? " · out" : ` · drawn ${fixed(drawn.truth, 3)}`;
  const notes = [`drawn from ${whole(drawn.count)} of ${whole(all)} tokens`];
  if (drawn.rough) notes.push("beyond the 4\u2009096 likeliest: groups, exact at temperature 1");
  return { bars, truth: own === null ? "the text ends here" : truth_words(rank > 0 ? rank : 0, -Math.log(own)) + drawn_truth, notes };
}

function draw_next(ctx: CanvasRenderingContext2D, { width }: Sized, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { bars, truth, notes } = bars_of(scene);
  draw_bars(pen, width, bars, scene.tokens[scene.look.query + 1], truth, scene.measure);
  const lines = notes.flatMap((note) => wrap(note, width, font(scene.theme), scene.measure));
  lines.slice(0, 3).forEach((line, i) => pen.text(line, 0, bars.length * pitch + 44 + 17 * i, { colour: scene.theme.ink_3 }));
}

const sampling: Control[] = [
  { kind: "range", name: "temperature", label: "temperature", low: 0, high: 2, step: 0.05 },
  { kind: "range", name: "top_k", label: "top-k", low: 0, high: 50, step: 1, off: 0 },
  { kind: "range", name: "top_p", label: "top-p", low: 0.05, high: 1, step: 0.05, off: 1 },
];

const next: Panel<Sized> = {
  kind: "next", name: "next",
  options: neutral,
  slot: () => "left",
  heading: ({ tokens, look }) => ({ title: `After ${quoted(tokens[look.query] ?? "")}`, subtitle: `position ${look.query} · probability` }),
  controls: (scene) => (is_neutral(settings_of(scene)) ? sampling : [...sampling, { kind: "button", name: "own", label: "The model's own", set: neutral }]),
  layout: (scene, width) => ({ width, height: Math.min(most, n_vocab(scene)) * pitch + 78 }),
  draw() {},
  mark: draw_next,
  hit: () => null,
  says(scene) {
    const { bars, truth, notes } = bars_of(scene), { temperature, top_k, top_p } = settings_of(scene);
    return `${says_after(scene, bars, truth)} Temperature ${temperature}, top-k ${top_k || "all"}, top-p ${top_p}; ${notes.join("; ")}.`;
  },
};

// --- the tree --------------------------------------------------------------------------------------------

interface Rows extends Sized { top: number; pitch: number; left: number; column: number; n: number }
interface Spot { step: number; node: number }

const breadth = 5, chip = 26;
const root_of = ({ selection, tokens }: Scene): number => selection.query ?? tokens.length - 1;
const tree_of = (scene: Scene): Tree => new Tree(scene.view, root_of(scene), scene.look.step, scene.options);
const grows = (scene: Scene): boolean => scene.live && Boolean(scene.view.content?.continues);
const why_not = (scene: Scene): string => (scene.live ? "gv.explore(trace, model, tokenizer) continues it" : "no kernel here to continue it: the first step only");

function layout(scene: Scene, width: number): Rows {
  const path = (scene.options.path ?? []) as number[], n = path.length ? Math.min(deepest, path.length + per_request) : 1;
  return { width, top: 30, pitch: 42, left: 30, column: Math.min(132, (width - 30) / breadth), n, height: 30 + n * 42 + 26 };
}

const box = (rows: Rows, step: number, node: number): [number, number, number, number] => [rows.left + node * rows.column, rows.top + step * rows.pitch, rows.column - 6, chip];

function draw_tree(ctx: CanvasRenderingContext2D, rows: Rows, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, measure } = scene, steps = tree_of(scene).steps().slice(0, rows.n);
  steps.forEach((step, i) => draw_step(pen, rows, step, i, steps.length, scene));
  const words = steps.flatMap(({ chosen }) => (chosen ? [chosen.word] : [])), line = rows.top + steps.length * rows.pitch + 4;
  if (words.length) pen.text(ellipsis([quoted(scene.tokens[root_of(scene)] ?? ""), ...words].join(" "), rows.width, font(theme, { mono: true }), measure), 0, 14, { mono: true, colour: theme.ink });
  pen.text(ellipsis(foot(scene, steps), rows.width, font(theme), measure), 0, words.length ? line : 14, { colour: theme.ink_3 });
}

/** What the rows mean and what can be done. */
function foot(scene: Scene, steps: Step[]): string {
  const path = steps.flatMap(({ chosen }) => (chosen ? [chosen.p] : [])), p = path.reduce((product, one) => product * one, 1);
  if (!grows(scene)) return why_not(scene);
  if (!path.length) return "a click continues a token by the likeliest ones";
  const waiting = steps.at(-1)?.own && path.length < deepest;
  return waiting ? "asking the kernel …" : `p of these ${path.length} tokens ${precise(p, 4)}${path.length >= deepest ? " · 12 steps are the most" : ""}`;
}

function draw_step(pen: Pen, rows: Rows, { nodes, chosen, own }: Step, i: number, count: number, { theme, measure }: Scene): void {
  pen.text(`+${i + 1}`, 0, rows.top + i * rows.pitch + 17, { colour: theme.ink_3 });
  nodes.slice(0, breadth).forEach((node, j) => {
    const [x, y, w, h] = box(rows, i, j), lit = node.id === chosen?.id;
    pen.fill(x, y, w, h, lit && own ? theme.accent_soft : theme.raised, 4);
    if (lit) pen.stroke(x + 0.5, y + 0.5, w - 1, h - 1, own ? theme.accent : theme.rule_2, own ? 1.5 : 1, 4);
    const p = short(node.p), ink = { mono: true, weight: lit ? 700 : 400, colour: theme.ink };
    pen.text(p, x + w - 6, y + 16, { align: "right", colour: theme.ink_2 });
    pen.text(ellipsis(node.word, w - 16 - pen.width(p), font(theme, ink), measure), x + 6, y + 16, ink);
    pen.fill(x + 6, y + h - 5, (w - 12) * node.p, 2, theme.sequential.css[150]!);
    if (lit && i + 1 < count) branch(pen, rows, i, j, nodes.length, own);
  });
}

/** From a chosen token to its alternatives in the next row. */
function branch(pen: Pen, rows: Rows, step: number, node: number, n: number, own: boolean): void {
  const colour = own ? pen.theme.accent : pen.theme.rule_2, [x, y, w, h] = box(rows, step, node), middle = (j: number) => Math.round(box(rows, step + 1, j)[0] + w / 2) + 0.5;
  const from = Math.round(x + w / 2) + 0.5, bus = Math.round(y + h + (rows.pitch - h) / 2) + 0.5, last = Math.min(n, breadth) - 1;
  pen.line(from, y + h, from, bus, colour);
  pen.line(Math.min(from, middle(0)), bus, Math.max(from, middle(last)), bus, colour);
  for (let j = 0; j <= last; j++) pen.line(middle(j), bus, middle(j), y + rows.pitch, colour);
}

function spot_of(scene: Scene): Spot | null { return (scene.spot as Spot | undefined) ?? (scene.options.cursor as Spot | undefined) ?? null; }

function mark_tree(ctx: CanvasRenderingContext2D, rows: Rows, scene: Scene): void {
  draw_tree(ctx, rows, scene); // the root follows the selection, on which nothing drawn below may depend
  const spot = spot_of(scene), pen = new Pen(ctx, scene.theme);
  if (!spot || spot.step >= tree_of(scene).steps().length) return;
  const [x, y, w, h] = box(rows, spot.step, spot.node);
  pen.stroke(x - 1.5, y - 1.5, w + 3, h + 3, scene.theme.ink, 1, 5);
}

/** What a click on a node does: choose it, and ask for what comes after where that is not known. */
export function chosen(scene: Scene, spot: Spot): Patch | null {
  const tree = tree_of(scene), node = tree.steps()[spot.step]?.nodes[spot.node];
  if (!node || !grows(scene)) return null;
  const { options, ids, at, steps } = tree.choose(spot.step, node);
  return { options: { ...options, cursor: spot }, act: ids ? { name: "continue", value: { ids, at, steps } } : undefined };
}

function hit_tree(rows: Rows, x: number, y: number, scene: Scene): Hit | null {
  const step = Math.floor((y - rows.top) / rows.pitch), node = Math.floor((x - rows.left) / rows.column);
  if (step < 0 || node < 0 || y - rows.top - step * rows.pitch > chip) return null;
  const patch = chosen(scene, { step, node });
  return patch ? { at: {}, spot: { step, node }, options: patch.options, act: patch.act } : null;
}

function press_tree(key: string, scene: Scene): Patch | null {
  const { step, node } = spot_of({ ...scene, spot: undefined }) ?? { step: 0, node: 0 }, steps = tree_of(scene).steps();
  if (key === "Enter" || key === " ") return chosen(scene, { step, node });
  const to: Record<string, [number, number]> = { ArrowUp: [step - 1, node], ArrowDown: [step + 1, node], ArrowLeft: [step, node - 1], ArrowRight: [step, node + 1], Home: [0, node], End: [deepest, node] };
  if (!to[key]) return null;
  const at = Math.max(0, Math.min(steps.length - 1, to[key]![0]));
  return { options: { cursor: { step: at, node: Math.max(0, Math.min((steps[at]?.nodes.length ?? 1) - 1, to[key]![1])) } } };
}

function tree_controls(scene: Scene): Control[] {
  const tree = tree_of(scene), ids = [...tree.prefix, ...tree.steps().flatMap(({ chosen }) => (chosen ? [chosen.id] : []))];
  if (!grows(scene) || !tree.path.length) return [];
  return [{ kind: "button", name: "use", label: "Use this text", act: { name: "use_text", value: { ids } } }, { kind: "button", name: "again", label: "Start over", set: { path: [], cursor: null } }];
}

function says_tree(scene: Scene): string {
  const steps = tree_of(scene).steps(), spot = spot_of(scene), at = spot && steps[spot.step]?.nodes[spot.node];
  const list = (nodes: Node[]) => nodes.slice(0, breadth).map(({ word, p }) => `${quoted(word)} ${fixed(p, 3)}`).join(", ");
  const path = steps.flatMap(({ chosen }) => (chosen ? [quoted(chosen.word)] : [])).join(" ");
  const here = at ? ` Step ${spot.step + 1}: ${quoted(at.word)} ${fixed(at.p, 3)}.` : "";
  return `Continuations of ${quoted(scene.tokens[root_of(scene)] ?? "")}${path ? `: ${path}` : ""}. Step ${steps.length}: ${list(steps.at(-1)?.nodes ?? [])}.${here} ${foot(scene, steps)}.`;
}

const tree: Panel<Rows> = {
  kind: "next", name: "tree", half: true,
  slot: () => "below",
  heading: (scene) => ({ title: "Continuations", subtitle: `after ${quoted(scene.tokens[root_of(scene)] ?? "")}, position ${root_of(scene)} · the likeliest tokens at each step, p given all before` }),
  controls: tree_controls, layout, draw() {}, mark: mark_tree, hit: hit_tree, press: press_tree, says: says_tree,
};

export const panels: Panel[] = [next, tree];
