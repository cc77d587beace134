// A long text as a ruler coloured by loss, with two brackets: the keys (ink) and queries (accent) of the window.
import { Pen } from "../paint.ts";
import type { Control, Hit, Panel, Patch, Sized } from "../panel.ts";
import type { Scene } from "../scene.ts";
import { whole } from "../text.ts";
import { summary, walk } from "./tokens.ts";

interface Ruler extends Sized { y: number; tall: number; n: number; size: number; query: number; key: number }

const at = (ruler: Ruler, token: number) => (token / ruler.n) * ruler.width;

function draw(ctx: CanvasRenderingContext2D, ruler: Ruler, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, view } = scene, [low, high] = view.range.loss!, losses = view.arrays.loss!.values;
  for (let x = 0; x < ruler.width; x++) { // each pixel the largest loss of the tokens that it covers
    const first = Math.floor((x / ruler.width) * ruler.n), last = Math.max(first + 1, Math.floor(((x + 1) / ruler.width) * ruler.n));
    let loss = -Infinity;
    for (let token = first; token < last; token++) if (losses[token]! > loss) loss = losses[token]!;
    const byte = Math.round(255 * Math.min(1, Math.max(0, (loss - low) / (high - low))));
    if (loss > -Infinity) pen.fill(x, ruler.y, 1, ruler.tall, theme.loss.css[byte]!);
  }
  pen.stroke(0.5, ruler.y + 0.5, ruler.width - 1, ruler.tall - 1, theme.rule_2);
}

function mark(ctx: CanvasRenderingContext2D, ruler: Ruler, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, look } = scene, y = ruler.y;
  bracket(pen, ruler, ruler.key, theme.ink);
  bracket(pen, ruler, ruler.query, theme.accent);
  for (const [token, colour] of [[look.key, theme.ink], [look.query, theme.accent]] as const) {
    const x = Math.max(6, Math.min(ruler.width - 6, Math.round(at(ruler, token + 0.5))));
    ctx.beginPath(); ctx.moveTo(x - 5, y - 12); ctx.lineTo(x + 5, y - 12); ctx.lineTo(x, y - 5); ctx.closePath();
    ctx.fillStyle = colour; ctx.fill();
  }
  for (const token of found(scene)) {
    const x = Math.round(at(ruler, token + 0.5));
    ctx.beginPath(); ctx.moveTo(x - 4, y - 12); ctx.lineTo(x + 4, y - 12); ctx.lineTo(x, y - 5); ctx.closePath();
    ctx.strokeStyle = theme.ink; ctx.lineWidth = 1; ctx.stroke();
  }
  labels(pen, ruler, scene);
}

const searched = new WeakMap<string[], { words: string; places: number[] }>();

/** Where the text says what is searched: across tokens, a space as it is drawn or as it is typed. */
export function found({ tokens, options }: Pick<Scene, "tokens" | "options">): number[] {
  const words = String(options.find ?? "").replaceAll("·", " ").toLowerCase(), known = searched.get(tokens);
  if (!words.trim()) return [];
  if (known?.words === words) return known.places;
  const starts: number[] = [], parts = tokens.map((token) => token.replaceAll("·", " ").toLowerCase());
  let text = "";
  for (const part of parts) { starts.push(text.length); text += part; }
  const places: number[] = [];
  for (let from = text.indexOf(words), token = 0; from >= 0; from = text.indexOf(words, from + 1)) {
    while (token + 1 < starts.length && starts[token + 1]! <= from) token++; // the token that holds the first sign
    if (places.at(-1) !== token) places.push(token);
  }
  searched.set(tokens, { words, places });
  return places;
}

/** Enter goes to the next place that was found, after the last to the first; the other keys walk. */
function press(key: string, scene: Scene): Patch | null {
  if (key !== "Enter") return walk(key, scene);
  const places = found(scene), next = places.find((token) => token > scene.look.query) ?? places[0];
  return next === undefined ? null : go_to(next, scene);
}

/** The found token on both axes of the window, beside the key that it attends to most; where that is further away the key is the token itself. */
function go_to(token: number, { pattern, look, place }: Scene): Patch {
  const n = place.window, strongest = pattern?.strongest(look.layer, look.head, token) ?? token, near = token - strongest < n;
  const first = (middle: number) => Math.round(middle - (n - 1) / 2);
  return { selection: { query: token, key: near ? null : token }, window: { query: first(token), key: first(near ? (token + strongest) / 2 : token) } };
}

/** How many places were found, and where in the text the one is that is looked at, or the first. */
export function matches(scene: Pick<Scene, "tokens" | "options" | "look">): string {
  const places = found(scene), n = places.length, here = places.indexOf(scene.look.query);
  if (!String(scene.options.find ?? "").trim()) return "";
  if (!n) return "no match";
  if (n === 1) return `1 match, token ${whole(places[0]!)}${here < 0 ? " · Enter goes there" : ""}`;
  return here < 0 ? `${whole(n)} matches, the first is token ${whole(places[0]!)} · Enter goes on` : `match ${whole(here + 1)} of ${whole(n)}, token ${whole(places[here]!)} · Enter goes on`;
}

const controls = (): Control[] => [{ kind: "search", name: "find", label: "find", hint: "text, then Enter" }];

function bracket(pen: Pen, ruler: Ruler, first: number, colour: string): void {
  pen.stroke(at(ruler, first), ruler.y - 3, at(ruler, ruler.size), ruler.tall + 6, colour, 2, 4);
}

/** The brackets' names first; a tick keeps its number only where no name stands. */
function labels(pen: Pen, ruler: Ruler, { theme }: Scene): void {
  const y = ruler.y + ruler.tall + 20, taken: [number, number][] = [];
  const write = (words: string, x: number, colour: string, weight: number) => {
    const half = pen.width(words, { weight }) / 2, middle = Math.max(half, Math.min(ruler.width - half, x));
    if (taken.some(([left, right]) => middle + half > left - 8 && middle - half < right + 8)) return;
    taken.push([middle - half, middle + half]);
    pen.text(words, middle, y, { align: "center", colour, weight });
  };
  const range = (first: number) => `${first}–${first + ruler.size - 1}`, middle = (first: number) => at(ruler, first + ruler.size / 2);
  if (ruler.query === ruler.key) write(`queries and keys ${range(ruler.query)}`, middle(ruler.query), theme.accent, 600);
  write(`queries ${range(ruler.query)}`, middle(ruler.query), theme.accent, 600);
  write(`keys ${range(ruler.key)}`, middle(ruler.key), theme.ink, 600);
  const step = [10, 20, 50, 100, 200, 500, 1000].find((one) => at(ruler, one) >= 64) ?? 2000;
  for (let tick = 0; tick <= ruler.n; tick += step) {
    pen.line(at(ruler, tick), ruler.y + ruler.tall, at(ruler, tick), ruler.y + ruler.tall + 4, theme.rule_2);
    write(whole(tick), at(ruler, tick), theme.ink_2, 400);
  }
}

function hit(ruler: Ruler, x: number, y: number): Hit | null {
  const token = Math.max(0, Math.min(ruler.n - 1, Math.floor((x / ruler.width) * ruler.n)));
  if (y > ruler.y + ruler.tall + 8) return null;
  const holds = (first: number) => token >= first && token < first + ruler.size;
  const drag = holds(ruler.query) ? "query" : holds(ruler.key) ? "key" : undefined;
  return { at: { query: token }, drag, grip: drag && token - (drag === "query" ? ruler.query : ruler.key) };
}

function drag(ruler: Ruler, start: Hit, x: number): Patch {
  const token = Math.round((x / ruler.width) * ruler.n) - (start.grip ?? 0);
  return { window: { [start.drag!]: token } };
}

const ruler: Panel<Ruler> = {
  kind: "tokens", name: "ruler",
  slot: ({ place, tokens }) => (place.large && place.window < tokens.length ? "top" : null),
  heading: (scene) => ({ title: scene.view.title, subtitle: matches(scene) || `${whole(scene.tokens.length)} tokens by loss · drag the brackets to move the window` }),
  layout: ({ place, tokens, corner }, width) => ({ width, height: 72, y: 16, tall: 24, n: tokens.length, size: place.window, ...corner }),
  options: { find: "" }, controls, draw, mark, hit, drag, press,
  says: (scene) => `Position ${scene.look.query} of ${scene.tokens.length}: ${summary(scene)}. ${matches(scene)}`,
};

export const panels: Panel[] = [ruler];
