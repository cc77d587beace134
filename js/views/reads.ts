// What the looked-at head reads from the chosen position: the largest weights, the rest, and the sum.
import { font, Pen } from "../paint.ts";
import type { Hit, Panel, Sized } from "../panel.ts";
import type { Scene } from "../scene.ts";
import { ellipsis, fixed, head_name, quoted } from "../text.ts";

interface Rows extends Sized { pitch: number; n: number }

const most = 4;

/** The largest weights of the row, then how many others there are and what they add up to. */
export function largest({ pattern, look }: Pick<Scene, "pattern" | "look">): { keys: [number, number][]; others: number; rest: number; sum: number } {
  const row = Array.from({ length: look.query + 1 }, (_, key): [number, number] => [key, pattern!.weight(look.layer, look.head, look.query, key)]);
  const sum = row.reduce((total, [, p]) => total + p, 0);
  const keys = [...row].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, most);
  return { keys, others: row.length - keys.length, rest: sum - keys.reduce((total, [, p]) => total + p, 0), sum };
}

/** Decimals of the weights: more where even the largest would be 0.00x, as over thousands of tokens. */
const places = (keys: [number, number][]): number => (keys[0]![1] < 0.01 ? 4 : 3);

function mark(ctx: CanvasRenderingContext2D, rows: Rows, scene: Scene): void {
  const here = scene.pattern!.has(scene.look.layer, scene.look.head, scene.look.query);
  if (!here) return new Pen(ctx, scene.theme).text(scene.detail_words, 0, 18, { colour: scene.theme.ink_3 });
  const pen = new Pen(ctx, scene.theme), { theme, tokens, look, measure } = scene, { keys, others, rest, sum } = largest(scene);
  const digits = 8 * String(look.query).length, name = 96 + digits, bar = Math.max(40, rows.width - name - 64), ink = { mono: true, colour: theme.ink } as const;
  const line = (i: number) => 8 + i * rows.pitch;
  keys.forEach(([key, p], i) => {
    const lit = key === look.key, weight = lit ? 700 : 400;
    pen.text(String(key), digits, line(i) + 10, { align: "right" });
    pen.text(ellipsis(tokens[key]!, name - digits - 16, font(theme, { ...ink, weight }), measure), digits + 8, line(i) + 10, { ...ink, weight });
    pen.bar(name, line(i), bar, 11, p, theme.sequential.css[Math.round(255 * Math.sqrt(Math.min(1, Math.max(0, p || 0))))]!);
    pen.text(fixed(p, places(keys)), rows.width, line(i) + 10, { align: "right", colour: theme.ink, weight: lit ? 600 : 400 });
  });
  if (others > 0) {
    pen.text(`${others} other${others > 1 ? "s" : ""}`, digits + 8, line(most) + 10, { colour: theme.ink_3 });
    pen.text(fixed(Math.max(0, rest), places(keys)), rows.width, line(most) + 10, { align: "right", colour: theme.ink_3 });
  }
  pen.line(0, line(most + 1) - 2.5, rows.width, line(most + 1) - 2.5, theme.rule);
  pen.text(scene.pattern!.exact(look.layer, look.head, look.query) ? "sum" : "sum (each √p rounded to 1/255)", digits + 8, line(most + 1) + 16);
  pen.text(fixed(sum, places(keys)), rows.width, line(most + 1) + 16, { align: "right" });
}

const reads: Panel<Rows> = {
  kind: "attention", name: "reads",
  slot: ({ place }) => (place.columns === 3 ? "left" : "right"),
  heading: ({ look }) => ({ title: `${head_name(look.layer, look.head)} reads`, subtitle: `from position ${look.query}` }),
  layout: (_, width) => ({ width, height: (most + 2) * 23 + 12, pitch: 23, n: most }),
  draw() {},
  mark,
  hit(rows, _x, y, scene): Hit | null {
    if (!scene.pattern!.has(scene.look.layer, scene.look.head, scene.look.query)) return null;
    const key = largest(scene).keys[Math.floor((y - 2) / rows.pitch)]?.[0];
    return key == null ? null : { at: { key, query: scene.look.query } };
  },
  says(scene) {
    if (!scene.pattern!.has(scene.look.layer, scene.look.head, scene.look.query)) return scene.detail_words;
    const { keys } = largest(scene), { tokens, look } = scene;
    const words = keys.map(([key, p]) => `${quoted(tokens[key]!)} ${fixed(p, places(keys))}`).join(", ");
    return `${head_name(look.layer, look.head)} reads from position ${look.query}: ${words}.`;
  },
};

export const panels: Panel[] = [reads];
