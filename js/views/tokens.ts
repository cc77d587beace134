// The text, coloured by a number per token: what surprised the model, how sure it was, or any of the reader's own.
import type { Scale } from "../colour.ts";
import { font, Pen } from "../paint.ts";
import type { Control, Hit, Panel, Patch, Sized } from "../panel.ts";
import type { Scene } from "../scene.ts";
import { ellipsis, fixed, quoted, whole } from "../text.ts";
import { choices_at } from "./after.ts";

interface Chip { x: number; y: number; w: number; at: number; word: string }
interface Strip extends Sized { chips: Chip[]; first: number; foot: number }

const tall = 28, pitch = 34, ink = { mono: true, size: 14 } as const;

/** In the large layout only the window's queries: the ruler shows the whole text. */
function shown({ place, corner, tokens }: Scene): [number, number] {
  return place.window < tokens.length ? [corner.query, place.window] : [0, tokens.length];
}

function layout(scene: Scene, width: number): Strip {
  const { theme, tokens, measure } = scene, [first, count] = shown(scene), chips: Chip[] = [];
  let x = 0, y = 2;
  for (let at = first; at < first + count; at++) {
    const word = ellipsis(tokens[at]!, width - 16, font(theme, ink), measure);
    const w = Math.max(18, Math.ceil(measure(word, font(theme, ink))) + 10);
    if (x + w > width && x > 0) { x = 0; y += pitch; }
    chips.push({ x, y, w, at, word });
    x += w + 4;
  }
  return { width, height: y + pitch + 86 + 18 * (Number(clipped(scene)) + Number(is_given(scene, 0))), chips, first, foot: y + pitch };
}

/** What colours the text: a number per token, where it stands on a scale from 0 to 1, and how it is written. */
export interface Colouring { words: string; values: ArrayLike<number>; share(value: number): number; high: number; scale: Scale; ticks: string[]; digits: number }

export function colourings({ view, theme }: Pick<Scene, "view" | "theme">): Record<string, Colouring> {
  const { loss, rank, entropy } = view.arrays, linear = (low: number, high: number) => (value: number) => (value - low) / (high - low);
  const nats = (values: ArrayLike<number>, words: string): Colouring => ({ words, values, share: linear(...view.range.loss!), high: view.range.loss![1], scale: theme.loss, ticks: ["0", "2", "4", "6 nats"], digits: 2 });
  const all: Record<string, Colouring> = { loss: nats(loss!.values, "loss") };
  all.p = { words: "p of the token", values: Float32Array.from(loss!.values, (value) => Math.exp(-value)), share: (p) => p, high: 1, scale: theme.sequential, ticks: ["0", ".5", "1"], digits: 4 };
  if (rank) all.rank = { words: "rank of the token", values: Float32Array.from(rank.values, (value) => value || NaN), share: (value) => Math.log10(value) / 3, high: 1000, scale: theme.loss, ticks: ["1", "10", "100", "1000"], digits: 0 };
  if (entropy) all.entropy = nats(entropy.values, "entropy before it was read");
  (view.labels.value ?? []).forEach((words, i) => {
    const [low, high] = view.range[`value_${i}`]!, signed = low < 0 && high > 0, digits = Math.max(-low, high) >= 100 ? 0 : 2;
    all[`value_${i}`] = { words, values: view.arrays[`value_${i}`]!.values, share: linear(low, high), high, scale: signed ? theme.diverging : theme.sequential,
                          ticks: [low, (low + high) / 2, high].map((tick) => fixed(tick, digits)), digits };
  });
  return all;
}

const colouring = (scene: Scene): Colouring => { const all = colourings(scene); return all[String(scene.options.colour)] ?? all.loss!; };
const above = (value: number, high: number): boolean => value > high * (1 + 1e-6);
const clipped = (scene: Scene): boolean => { const { values, high } = colouring(scene); return Array.prototype.some.call(values, (value: number, at: number) => above(value, high) && !is_given(scene, at)); };

function draw(ctx: CanvasRenderingContext2D, strip: Strip, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme } = scene, how = colouring(scene);
  for (const { x, y, w, at, word } of strip.chips) {
    const value = how.values[at]!, byte = byte_of(how, value);
    if (is_given(scene, at)) { draw_given(pen, x, y, w, word); continue; }
    if (Number.isFinite(value)) pen.fill(x, y, w, tall, how.scale.css[byte]!, 3);
    else pen.stroke(x + 0.5, y + 0.5, w - 1, tall - 1, theme.rule_2, 1, 3, [1.5, 2.5]);
    if (above(value, how.high)) pen.corner(x + w, y);
    pen.text(word, x + w / 2, y + 19, { ...ink, align: "center", colour: ink_on(scene, how, value) });
    if (!Number.isFinite(value) && at > 0) pen.text(Number.isNaN(value) ? "×" : "∞", x + w - 4, y + 10, { align: "center", colour: theme.ink });
  }
  legend(pen, strip, scene, how);
}

/** Whether a token was only given in training, so that numbers about guessing it say nothing of the model. */
const is_given = ({ view, options }: Pick<Scene, "view" | "options">, at: number): boolean => at < (view.content?.given ?? 0) && !String(options.colour ?? "loss").startsWith("value_");

function draw_given(pen: Pen, x: number, y: number, w: number, word: string, high = tall): void {
  const { theme } = pen, room = word ? pen.width(word, ink) + 4 : 0;
  pen.hatch((c) => c.roundRect(x, y, w, high, 3), x, y, w, high, 5, theme.rule_2);
  if (word) pen.fill(x + w / 2 - room / 2, y + 5, room, high - 10, theme.paper, 2); // the word stays legible
  pen.stroke(x + 0.5, y + 0.5, w - 1, high - 1, theme.rule_2, 1, 3);
  pen.text(word, x + w / 2, y + 19, { ...ink, align: "center", colour: theme.ink });
}

const byte_of = (how: Colouring, value: number): number => Math.round(255 * Math.min(1, Math.max(0, how.share(value)))) || 0;
const ink_on = ({ theme }: Scene, how: Colouring, value: number, given = false): string => (!given && Number.isFinite(value) && how.scale !== theme.loss ? how.scale.ink[byte_of(how, value)]! : theme.ink);

function legend(pen: Pen, strip: Strip, scene: Scene, how: Colouring): void {
  const y = strip.foot + 54, width = Math.min(160, strip.width - 88);
  pen.legend(0, y, width, how.scale, how.ticks);
  pen.stroke(width + 20.5, y - 2.5, 16, 14, scene.theme.rule_2, 1, 3, [1.5, 2.5]);
  pen.text("none", width + 44, y + 9);
  const given = is_given(scene, 0), below = y + (given ? 62 : 44);
  if (given) { draw_given(pen, 0, y + 32, 22, "", 15); pen.text("given: no loss was trained there", 30, y + 44); }
  if (!clipped(scene)) return;
  pen.fill(0, below - 12, 22, 15, how.scale.css[255]!, 3);
  pen.corner(22, below - 12);
  pen.text(`missing corner: above ${how.ticks.at(-1)}`, 30, below);
}

function mark(ctx: CanvasRenderingContext2D, strip: Strip, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, look, measure } = scene, how = colouring(scene);
  for (const { x, y, w, at, word } of strip.chips) {
    if (at === look.key && at !== look.query) pen.stroke(x - 0.5, y - 0.5, w + 1, tall + 1, theme.ink, 1, 4, [3, 2]);
    if (at !== look.query) continue;
    pen.stroke(x - 1, y - 1, w + 2, tall + 2, theme.accent, 2, 5);
    pen.text(word, x + w / 2, y + 19, { ...ink, align: "center", weight: 700, colour: ink_on(scene, how, how.values[at]!, is_given(scene, at)) });
  }
  const lengths = [24, 12, 6], fitting = (shorter: string[], weight: number) => {
    const style = font(theme, { weight });
    return shorter.find((one) => measure(one, style) <= strip.width) ?? ellipsis(shorter.at(-1)!, strip.width, style, measure);
  };
  const own = own_value(scene), fewer = [...lengths.map((most) => expected(scene, most)), ...[2, 1].map((n) => expected(scene, 6, n))]; // no number is cut
  pen.text(fitting(lengths.map((most) => summary(scene, most)), 500), 0, strip.foot + 14, { weight: 500, colour: theme.ink });
  pen.text(fitting(own ? [own] : fewer, 400), 0, strip.foot + 33);
}

/** The token at the query, cut to so many signs: how likely the model held it, before it was read. */
export function summary(scene: Scene, most = 24): string {
  const { look, tokens, view } = scene, loss = view.arrays.loss!.values[look.query]!, rank = view.arrays.rank?.values[look.query] ?? 0;
  const said = quoted(tokens[look.query] ?? "", most);
  if (Number.isNaN(loss)) return look.query ? `${said} · loss NaN` : `${said} · first token, no loss`;
  if (look.query < (view.content?.given ?? 0)) return `${said} · given: never trained to be guessed${Number.isFinite(loss) ? ` · loss ${fixed(loss, 2)}` : ""}`;
  return `${said} · loss ${fixed(loss, 2)} · p ${fixed(Math.exp(-loss), 3)}${rank > 0 ? ` · rank ${whole(rank)}` : ""}`;
}

/** The number that colours the token, where the summary does not say it. */
function own_value(scene: Scene): string {
  const name = String(scene.options.colour ?? "loss"), how = colouring(scene);
  return /^(entropy|value_)/.test(name) ? `${how.words} ${fixed(how.values[scene.look.query]!, 4)}` : "";
}

/** What the model expected in the place of the token looked at. */
export function expected(scene: Pick<Scene, "view" | "look" | "tokens">, most = 24, n = 3): string {
  const list = choices_at(scene.view, scene.look.query - 1).slice(0, n);
  return list.length ? `expected here: ${list.map(({ word, p }) => `${quoted(word, most)} ${fixed(p, 3)}`).join(", ")}` : "";
}

const hit = (strip: Strip, x: number, y: number): Hit | null => {
  const chip = strip.chips.find((one) => x >= one.x - 2 && x < one.x + one.w + 2 && y >= one.y - 3 && y < one.y + pitch - 3);
  return chip ? { at: { query: chip.at } } : null;
};

/** Left and right through the text; the key is the strongest one until it is chosen. */
export function walk(key: string, { look, tokens }: Scene): Patch | null {
  const last = tokens.length - 1;
  const to: Record<string, number> = { ArrowLeft: look.query - 1, ArrowUp: look.query - 1, ArrowRight: look.query + 1, ArrowDown: look.query + 1, Home: 0, End: last };
  return key in to ? { selection: { query: Math.max(0, Math.min(last, to[key]!)), key: null } } : null;
}

const names: Record<string, string> = { loss: "loss", p: "p(token)", rank: "rank", entropy: "entropy" };
const controls = (scene: Scene): Control[] =>
  [{ kind: "choice", name: "colour", label: "colour", choices: Object.entries(colourings(scene)).map(([name, { words }]) => [name, names[name] ?? words]) }];

const strip: Panel<Strip> = {
  kind: "tokens", name: "text",
  options: { colour: "loss" },
  slot: ({ place, tokens }) => (place.large && place.window === tokens.length ? "top" : "left"),
  heading(scene) {
    const [first, count] = shown(scene), part = count < scene.tokens.length;
    return { title: part ? "Window" : scene.view.title, subtitle: part ? `queries ${first} to ${first + count - 1}` : scene.view.subtitle };
  },
  controls, layout, draw, mark, hit, press: walk,
  stale: ({ corner }) => String(corner.query),
  says: (scene) => `Position ${scene.look.query}: ${[summary(scene), own_value(scene), expected(scene)].filter(Boolean).join("; ")}.`,
};

export const panels: Panel[] = [strip];
