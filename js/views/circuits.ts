// The looked-at head's QK and OV tables with their tokens, and how many directions each uses.
import { font, Pen } from "../paint.ts";
import type { Hit, Panel, Sized } from "../panel.ts";
import type { Scene } from "../scene.ts";
import { ellipsis, fixed, head_name, precise, quoted } from "../text.ts";

interface Table { x: number; y: number; head: number; name: "qk" | "ov"; title: string; rows: string; columns: string }
interface Tables extends Sized {
  n: number; cell: number; tables: Table[];
  /** The width of a table with the names beside it. */
  side: number;
  /** Every which token has room for its name, and whether it stands upright above its column. */
  every: number; upright: boolean;
}
interface Spot { table: "qk" | "ov"; row: number; column: number }

const singular = 84, label = 88;

function layout(scene: Scene, width: number): Tables {
  const n = scene.view.labels.word?.length ?? 0, side = width >= 760 ? (width - 40) / 2 : width;
  if (!scene.detail) return { width, height: 28, n, side, cell: 0, tables: [], every: 1, upright: true };
  const cell = Math.max(2, Math.min(n <= 8 ? 40 : 30, Math.floor((side - label - 8) / n))), every = Math.ceil(13 / cell);
  const widest = Math.max(...scene.view.labels.word!.map((word) => scene.measure(word.slice(0, 24), font(scene.theme, { mono: true }))), 0);
  const upright = widest <= every * cell - 4, top = upright ? 44 : 40 + Math.ceil(0.87 * Math.min(60, widest));
  const tall = top + n * cell + singular + 52, two = width >= 760;
  const tables: Table[] = [
    { x: label, y: top, head: 14, name: "qk", title: "QK: added to the score", rows: "query", columns: "key" },
    { x: two ? side + 40 + label : label, y: two ? top : tall + 24 + top, head: two ? 14 : tall + 38, name: "ov", title: "OV: added to the logits", rows: "attends to", columns: "writes" },
  ];
  return { width, height: two ? tall : 2 * tall + 24, n, side, cell, tables, every, upright };
}

const largest = (values: ArrayLike<number>): number => Array.from(values).reduce((most, value) => Math.max(most, Math.abs(value) || 0), 0) || 1;

function draw(ctx: CanvasRenderingContext2D, shape: Tables, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme);
  if (!scene.detail) return pen.text(scene.view.detail_axes ? scene.detail_words : "", 0, 18, { colour: scene.theme.ink_3 });
  for (const table of shape.tables) draw_table(pen, shape, table, scene);
}

function draw_table(pen: Pen, shape: Tables, table: Table, scene: Scene): void {
  const { theme } = scene, { n, cell } = shape, { x, y, name, head } = table, values = scene.detail!.arrays[name]!.values, most = largest(values);
  pen.text(table.title, x, head, { weight: 600, colour: theme.ink });
  pen.text(`${table.columns} →`, x + pen.width(table.title, { weight: 600 }) + 16, head);
  pen.text(`${table.rows} ↓`, x - 8, y - 8, { align: "right" });
  for (let row = 0; row < n; row++)
    for (let column = 0; column < n; column++) {
      const value = values[row * n + column]!, [cx, cy] = [x + column * cell, y + row * cell], gap = cell > 5 ? 1 : 0;
      if (!Number.isFinite(value)) pen.strange(value, cx, cy, cell);
      else pen.fill(cx, cy, cell - gap, cell - gap, theme.diverging.css[Math.round(128 + (127 * value) / most)]!);
    }
  draw_words(pen, shape, table, scene);
  const below = y + n * cell + 12, wide = Math.min(180, n * cell);
  pen.legend(x, below, Math.max(140, wide), theme.diverging, [precise(-most), "0", precise(most)]);
  draw_singular(pen, scene, name, x, below + 40, shape.side - label);
}

/** The tokens beside and above a table, as many as have room. */
function draw_words(pen: Pen, { cell, every, upright }: Tables, { x, y }: Table, { theme, measure, view }: Scene): void {
  const { ctx } = pen;
  view.labels.word!.forEach((word, i) => {
    if (i % every) return;
    const short = ellipsis(word, 60, font(theme, { mono: true }), measure), middle = i * cell + cell / 2;
    pen.text(short, x - 6, y + middle + 4, { mono: true, align: "right" });
    if (upright) return pen.text(short, x + middle, y - 6, { mono: true, align: "center" });
    ctx.save(); ctx.translate(x + middle, y - 6); ctx.rotate(-Math.PI / 3);
    pen.text(short, 0, 4, { mono: true });
    ctx.restore();
  });
}

/** The singular values as bars from the largest: how many directions the head uses. */
function draw_singular(pen: Pen, scene: Scene, name: "qk" | "ov", x: number, y: number, room: number): void {
  const values = scene.detail!.arrays[`${name}_values`]!.values, most = largest(values), pitch = Math.max(2, Math.min(14, Math.floor(220 / values.length)));
  const total = Array.from(values).reduce((sum, s) => sum + s * s, 0) || 1, first = (values[0]! ** 2 / total) * 100;
  values.forEach((s, i) => { const tall = (44 * s) / most; pen.fill(x + i * pitch, y + 44 - tall, Math.max(1, pitch - 1), Math.max(1, tall), scene.theme.ink_3); });
  pen.line(x, y + 44.5, x + values.length * pitch, y + 44.5, scene.theme.rule_2);
  const share = `${Math.round(first)} % of the table`, number = precise(values[0]!);
  const words = [`${values.length} singular values, the first ${number}: ${share}`, `the first of ${values.length} singular values: ${share}`, share];
  pen.text(words.find((one) => pen.width(one) <= room) ?? "", x, y + 62, { colour: scene.theme.ink_3 });
}

/** The cell under the mouse; else that of the chosen query and key. */
function spot_of(shape: Tables, scene: Scene): Spot | null {
  if (scene.spot) return scene.spot as Spot;
  const words = scene.view.labels.word ?? [], row = words.indexOf(scene.tokens[scene.look.query]!), column = words.indexOf(scene.tokens[scene.look.key]!);
  return shape.tables.length && row >= 0 && column >= 0 ? { table: "qk", row, column } : null;
}

export function sentence(scene: Scene, { table, row, column }: Spot): string {
  const words = scene.view.labels.word!, value = scene.detail!.arrays[table]!.values[row * words.length + column]!, [a, b] = [quoted(words[row]!), quoted(words[column]!)];
  return table === "qk" ? `The query ${a} with the key ${b} adds ${fixed(value, 4)} to the score of ${head_name(scene.look.layer, scene.look.head)}.`
    : `Attending wholly to ${a} adds ${fixed(value, 4)} to the logit of ${b}.`;
}

function mark(ctx: CanvasRenderingContext2D, shape: Tables, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme } = scene, spot = spot_of(shape, scene);
  if (!scene.detail || !spot) return;
  const table = shape.tables.find((one) => one.name === spot.table)!, { cell } = shape;
  pen.stroke(table.x + spot.column * cell - 1.5, table.y + spot.row * cell - 1.5, cell + 2, cell + 2, scene.spot ? theme.ink : theme.accent, 2, 3);
  const left = shape.tables[0]!.y === shape.tables[1]!.y ? table.x : 0, words = ellipsis(sentence(scene, spot), shape.width - left, font(theme, { size: 13 }), scene.measure);
  pen.text(words, left, table.y + shape.n * cell + singular + 48, { size: 13, colour: theme.ink });
}

function hit({ tables, n, cell }: Tables, x: number, y: number): Hit | null {
  for (const { name, x: left, y: top } of tables) {
    const column = Math.floor((x - left) / cell), row = Math.floor((y - top) / cell);
    if (column >= 0 && column < n && row >= 0 && row < n) return { at: {}, spot: { table: name, row, column } };
  }
  return null;
}

const panel: Panel<Tables> = {
  kind: "circuits", name: "circuits", folded: true, half: ({ view }) => (view.labels.word?.length ?? 0) <= 8,
  slot: () => "below",
  heading: (scene) => ({ title: `Circuits of ${head_name(scene.look.layer, scene.look.head)}`,
    subtitle: `${scene.view.subtitle}${scene.look.layer > 0 && scene.view.detail_axes ? " · the direct path only: this layer also reads what earlier ones wrote" : ""}` }),
  layout, draw, mark, hit,
  stale: ({ look, detail, detail_words }) => `${look.layer} ${look.head} ${detail ? "" : detail_words}`,
  says(scene) {
    const spot = scene.detail && spot_of({ tables: [{}] } as Tables, scene);
    return spot ? sentence(scene, spot) : scene.detail_words || scene.view.subtitle;
  },
};

export const panels: Panel[] = [panel];
