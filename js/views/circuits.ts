// The looked-at head's QK and OV tables with their tokens, and how many directions each uses.
import { around } from "../colour.ts";
import { font, Pen } from "../paint.ts";
import type { Hit, Panel, Sized } from "../panel.ts";
import type { Scene } from "../scene.ts";
import { ellipsis, head_name, precise, quoted, wrap } from "../text.ts";

interface Table { x: number; y: number; head: number; name: "qk" | "ov"; title: string; rows: string; columns: string }
interface Tables extends Sized {
  n: number; cell: number; tables: Table[];
  /** The width of a table with the names beside it. */
  side: number;
  /** Every which token has room for its name, and whether it stands upright above its column. */
  every: number; upright: boolean;
  /** Where the sentence stands, below both tables, and how many lines the note below it may have. */
  foot: number; notes: number;
}
interface Spot { table: "qk" | "ov"; row: number; column: number }

const singular = 112, label = 88, legend = 44, line = 17;

function layout(scene: Scene, width: number): Tables {
  const n = scene.view.labels.word?.length ?? 0, two = width >= 760, side = two ? (width - 40) / 2 : width;
  if (!scene.detail) return { width, height: 28, n, side, cell: 0, tables: [], every: 1, upright: true, foot: 0, notes: 0 };
  const cell = Math.max(2, Math.min(n <= 8 ? 40 : 30, Math.floor((side - label - 8) / n))), every = Math.ceil(13 / cell);
  const widest = Math.max(...scene.view.labels.word!.map((word) => scene.measure(word.slice(0, 24), font(scene.theme, { mono: true }))), 0);
  const upright = widest <= every * cell - 4, top = upright ? 44 : 40 + Math.ceil(0.87 * Math.min(60, widest));
  const tall = top + n * cell + legend + singular;
  const tables: Table[] = [
    { x: label, y: top, head: 14, name: "qk", title: "QK: added to the score", rows: "query", columns: "key" },
    { x: two ? side + 40 + label : label, y: two ? top : tall + 24 + top, head: two ? 14 : tall + 38, name: "ov", title: "OV: added to the logits", rows: "attends to", columns: "writes" },
  ];
  const foot = 8 + (two ? tall : 2 * tall + 24), notes = wrap(scales_words(scene), width, font(scene.theme), scene.measure).length;
  return { width, height: foot + 20 * said_lines(width) + 8 + line * notes, n, side, cell, tables, every, upright, foot, notes };
}

const said_lines = (width: number): number => Math.ceil(1400 / width); // 1400: the longest sentence with two tokens of 24 signs

const largest = (values: ArrayLike<number>): number => Array.from(values).reduce((most, value) => Math.max(most, Math.abs(value) || 0), 0) || 1;

/** At which LayerNorm scales the tables are, and what they leave out. */
export function scales_words({ view, look }: Pick<Scene, "view" | "look">): string {
  const scale = precise(view.arrays.typical!.values[look.layer]!, 4), last = precise(view.arrays.typical_final!.values[0]!, 4);
  return `LayerNorm: its gain and centring are folded into the weights; it divides by the typical scale of this text, in layer ${look.layer} the median ${scale} (for scores its square), `
    + `before the logits ${last}. Left out: biases, position embeddings and what earlier layers wrote.`;
}

function draw(ctx: CanvasRenderingContext2D, shape: Tables, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { width, foot, notes } = shape;
  if (!scene.detail) return pen.text(scene.view.detail_axes ? scene.detail_words : "", 0, 18, { colour: scene.theme.ink_3 });
  for (const table of shape.tables) draw_table(pen, shape, table, scene);
  const words = wrap(scales_words(scene), width, font(scene.theme), scene.measure).slice(0, notes);
  words.forEach((one, i) => pen.text(one, 0, foot + 20 * said_lines(width) + 14 + line * i, { colour: scene.theme.ink_3 }));
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
      else pen.fill(cx, cy, cell - gap, cell - gap, theme.diverging.css[around(value, most)]!);
    }
  pen.stroke(x - 1.5, y - 1.5, n * cell + 2, n * cell + 2, theme.rule_2); // where cells near 0 end and the paper begins
  draw_words(pen, shape, table, scene);
  const below = y + n * cell + 12, wide = Math.min(180, n * cell);
  pen.legend(x, below, Math.max(140, wide), theme.diverging, [precise(-most), "0", precise(most)]);
  draw_singular(pen, scene, name, x, below + legend, shape.side - label);
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
  const values = scene.detail!.arrays[`${name}_values`]!.values, most = largest(values), pitch = Math.max(2, Math.min(14, Math.floor(Math.min(220, room) / values.length)));
  const { theme, measure } = scene, foot = y + 60;
  pen.text("singular values →", x, y, { colour: theme.ink_2 });
  values.forEach((s, i) => { const tall = (44 * s) / most; pen.fill(x + i * pitch, foot - tall, Math.max(1, pitch - 1), Math.max(1, tall), theme.ink_3); });
  pen.line(x, foot + 0.5, x + values.length * pitch, foot + 0.5, theme.rule_2);
  wrap(singular_words(values), room, font(theme), measure).slice(0, 2).forEach((one, i) => pen.text(one, x, foot + 18 + 16 * i, { colour: theme.ink_3 }));
}

/** How much of a table its first direction is. */
export function singular_words(values: ArrayLike<number>): string {
  const squares = Array.from(values, (s) => s * s), total = squares.reduce((sum, s) => sum + s, 0) || 1;
  return `The first of ${values.length} is ${precise(values[0]!)}, ${Math.round((100 * squares[0]!) / total)} % of the table’s sum of squares.`;
}

/** The cell under the mouse; else that of the chosen query and key. */
function spot_of(shape: Pick<Tables, "tables">, scene: Scene): Spot | null {
  if (scene.spot) return scene.spot as Spot;
  const place = scene.view.arrays.place?.values ?? [], row = place[scene.look.query] ?? -1, column = place[scene.look.key] ?? -1;
  return shape.tables.length && row >= 0 && column >= 0 ? { table: "qk", row, column } : null;
}

/** What a cell adds; of the looked-at query and key also at their own scales, which is the number of another view. */
export function sentence(scene: Pick<Scene, "view" | "detail" | "look" | "spot">, { table, row, column }: Spot): string {
  const { look, view, detail, spot } = scene, words = view.labels.word!, value = detail!.arrays[table]!.values[row * words.length + column]!, [a, b] = [quoted(words[row]!), quoted(words[column]!)];
  if (table === "ov") return `Attending wholly to ${a} adds ${precise(value, 4)} to the logit of ${b}.`;
  const said = `The query ${a} with the key ${b} adds ${precise(value, 4)} to the score of ${head_name(look.layer, look.head)}.`;
  if (spot || look.key > look.query) return said;
  const { values, shape } = view.arrays.scale!, at = (pos: number) => values[look.layer * shape[1]! + pos]!;
  const own = (value * view.arrays.typical!.values[look.layer]! ** 2) / (at(look.query) * at(look.key));
  return `${said} At the own scales of positions ${look.query} and ${look.key}: ${precise(own, 4)}, embed × embed of ‘Score, split exactly’.`;
}

function mark(ctx: CanvasRenderingContext2D, shape: Tables, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme } = scene, spot = spot_of(shape, scene);
  if (!scene.detail || !spot) return;
  const table = shape.tables.find((one) => one.name === spot.table)!, { cell, width, foot } = shape;
  pen.stroke(table.x + spot.column * cell - 1.5, table.y + spot.row * cell - 1.5, cell + 2, cell + 2, scene.spot ? theme.ink : theme.accent, 2, 3);
  const words = wrap(sentence(scene, spot), width, font(theme, { size: 13 }), scene.measure).slice(0, said_lines(width));
  words.forEach((one, i) => pen.text(one, 0, foot + 14 + 20 * i, { size: 13, colour: theme.ink }));
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
    const spot = scene.detail && spot_of({ tables: [{} as Table] }, scene);
    return spot ? sentence(scene, spot) : scene.detail_words || scene.view.subtitle;
  },
};

export const panels: Panel[] = [panel];
