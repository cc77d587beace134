// What differs between two runs: a row each, the larger ones first; a head can be chosen.
import { font, Pen } from "../paint.ts";
import type { Hit, Panel, Sized } from "../panel.ts";
import type { Scene } from "../scene.ts";
import { ellipsis, fixed } from "../text.ts";

export interface Row { kind: string; name: string; a: string; b: string; layer: number | null; head: number | null }
interface Table extends Sized { columns: [number, number, number, number]; bar: number }

const pitch = 22, top = 26;

export const rows_of = ({ view }: Pick<Scene, "view">): Row[] => view.content?.rows ?? [];

function layout(scene: Scene, width: number): Table {
  const name = Math.min(150, width * 0.28), value = Math.min(180, width * 0.26), at = name + 2 * value;
  return { width, height: top + pitch * Math.max(1, rows_of(scene).length) + (scene.view.content?.more ? pitch : 0) + 8, columns: [0, name, name + value, at], bar: Math.max(0, width - at - 56) };
}

function draw(ctx: CanvasRenderingContext2D, { columns, bar, width }: Table, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, measure, view } = scene, list = rows_of(scene), [one, two] = view.content?.names ?? ["", ""];
  if (!list.length) return pen.text("Nothing differs: same settings, same losses, same heads.", 0, 18, { size: 13 });
  const cell = (words: string, column: number, y: number, weight = 400, colour = theme.ink_2) => {
    const room = (columns[column + 1] ?? width) - columns[column]! - 12;
    pen.text(ellipsis(words, room, font(theme, { weight }), measure), columns[column]!, y, { weight, colour });
  };
  cell("", 0, 12); cell(one, 1, 12, 600, theme.ink); cell(two, 2, 12, 600, theme.ink);
  pen.text("apart", columns[3], 12, { weight: 600, colour: theme.ink });
  const largest = Math.max(1e-9, ...Array.from(view.arrays.size!.values).filter(Number.isFinite));
  list.forEach((row, i) => {
    const y = top + pitch * i + 14, size = view.arrays.size!.values[i]!;
    cell(row.name, 0, y, 600, theme.ink); cell(row.a, 1, y); cell(row.b, 2, y);
    if (!Number.isFinite(size)) return pen.text("setting", columns[3], y, { colour: theme.ink_3 });
    pen.text(fixed(size, 2), columns[3], y, { colour: theme.ink });
    pen.bar(columns[3] + 40, y - 9, bar, 10, size / largest, theme.sequential.css[150]!);
  });
  if (view.content?.more) pen.text(`and ${view.content.more} smaller ones`, 0, top + pitch * list.length + 14, { colour: theme.ink_3 });
}

function mark(ctx: CanvasRenderingContext2D, table: Table, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), at = rows_of(scene).findIndex((row) => row.layer === scene.look.layer && row.head === scene.look.head);
  if (at >= 0) pen.stroke(-0.5, top + pitch * at - 2, table.width, pitch, scene.theme.accent, 1.5, 4);
}

export function hit(_: Table, _x: number, y: number, scene: Scene): Hit | null {
  const row = rows_of(scene)[Math.floor((y - top) / pitch)];
  return row && row.layer != null && row.head != null ? { at: { layer: row.layer, head: row.head } } : null;
}

const list: Panel<Table> = {
  kind: "compare", name: "compare",
  slot: () => "below",
  heading: ({ view }) => ({ title: view.title, subtitle: `${view.subtitle} · of a head: the share of its attention that lies elsewhere` }),
  layout, draw, mark, hit,
  says: (scene) => rows_of(scene).slice(0, 8).map((row) => `${row.name}: ${row.a} and ${row.b}`).join("; ") || "Nothing differs.",
};

export const panels: Panel[] = [list];
