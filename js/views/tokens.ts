// The text, coloured by what surprised the model.
import { font, Pen } from "../paint.ts";
import type { Hit, Panel, Patch, Sized } from "../panel.ts";
import type { Scene } from "../scene.ts";
import { ellipsis, fixed, quoted, whole } from "../text.ts";

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
  return { width, height: y + pitch + (clipped(scene) ? 84 : 66), chips, first, foot: y + pitch };
}

const loss_of = (scene: Scene) => scene.view.arrays.loss!.values;
const clipped = (scene: Scene) => loss_of(scene).some((loss) => loss > scene.view.range.loss![1]);

function draw(ctx: CanvasRenderingContext2D, strip: Strip, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme } = scene, [low, high] = scene.view.range.loss!;
  for (const { x, y, w, at, word } of strip.chips) {
    const loss = loss_of(scene)[at]!, byte = Math.round(255 * Math.min(1, Math.max(0, (loss - low) / (high - low))));
    if (Number.isFinite(loss)) pen.fill(x, y, w, tall, theme.loss.css[byte]!, 3);
    else pen.stroke(x + 0.5, y + 0.5, w - 1, tall - 1, theme.rule_2, 1, 3, [1.5, 2.5]);
    if (loss > high) clip(pen, x + w, y);
    pen.text(word, x + w / 2, y + 19, { ...ink, align: "center", colour: theme.ink });
    if (!Number.isFinite(loss) && at > 0) pen.text(Number.isNaN(loss) ? "×" : "∞", x + w - 4, y + 10, { align: "center", colour: theme.ink });
  }
  legend(pen, strip, scene);
}

function clip(pen: Pen, x: number, y: number): void { // the value is above the scale: top right corner cut away
  const { ctx } = pen;
  ctx.beginPath(); ctx.moveTo(x - 8, y - 0.5); ctx.lineTo(x + 0.5, y - 0.5); ctx.lineTo(x + 0.5, y + 8); ctx.closePath();
  ctx.fillStyle = pen.theme.paper; ctx.fill();
}

function legend(pen: Pen, strip: Strip, scene: Scene): void {
  const y = strip.foot + 34, width = Math.min(160, strip.width - 88);
  pen.legend(0, y, width, scene.theme.loss, ["0", "2", "4", "6 nats"]);
  pen.stroke(width + 20.5, y - 2.5, 16, 14, scene.theme.rule_2, 1, 3, [1.5, 2.5]);
  pen.text("none", width + 44, y + 9);
  if (clipped(scene)) pen.text("corner cut away: above 6 nats", 0, y + 44);
}

function mark(ctx: CanvasRenderingContext2D, strip: Strip, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, look } = scene;
  for (const { x, y, w, at, word } of strip.chips) {
    if (at === look.key && at !== look.query) pen.stroke(x - 0.5, y - 0.5, w + 1, tall + 1, theme.ink, 1, 4, [3, 2]);
    if (at !== look.query) continue;
    pen.stroke(x - 1, y - 1, w + 2, tall + 2, theme.accent, 2, 5);
    pen.text(word, x + w / 2, y + 19, { ...ink, align: "center", weight: 700, colour: theme.ink });
  }
  pen.text(ellipsis(summary(scene), strip.width, font(theme, { weight: 500 }), scene.measure), 0, strip.foot + 14, { weight: 500, colour: theme.ink });
}

/** The token at the query: how likely the model held it, before it was read. */
export function summary(scene: Scene): string {
  const { look, tokens, view } = scene, loss = loss_of(scene)[look.query]!, rank = view.arrays.rank?.values[look.query] ?? 0;
  const said = quoted(tokens[look.query] ?? "");
  if (Number.isNaN(loss)) return look.query ? `${said} · loss NaN` : `${said} · first token, no loss`;
  return `${said} · loss ${fixed(loss, 2)} · p ${fixed(Math.exp(-loss), 3)}${rank > 0 ? ` · rank ${whole(rank)}` : ""}`;
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

const strip: Panel<Strip> = {
  kind: "tokens", name: "text",
  slot: ({ place, tokens }) => (place.large && place.window === tokens.length ? "top" : "left"),
  heading(scene) {
    const [first, count] = shown(scene), part = count < scene.tokens.length;
    return { title: part ? "Window" : scene.view.title, subtitle: part ? `queries ${first} to ${first + count - 1}` : scene.view.subtitle };
  },
  layout, draw, mark, hit, press: walk,
  stale: ({ corner }) => String(corner.query),
  says: (scene) => `Position ${scene.look.query}: ${summary(scene)}.`,
};

export const panels: Panel[] = [strip];
