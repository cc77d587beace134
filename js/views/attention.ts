// The grid of all heads: one tile each, hover previews, click locks.
import { font, Pen } from "../paint.ts";
import type { Hit, Panel, Patch, Sized } from "../panel.ts";
import type { Scene } from "../scene.ts";
import { fixed, head_name, quoted, short } from "../text.ts";

interface Grid extends Sized {
  left: number; top: number; tile: number; pitch_x: number; pitch_y: number; n_layer: number; n_head: number;
  n_tokens: number; words: boolean;
}

function layout(scene: Scene, width: number): Grid {
  const { n_layer, n_head, n_tokens } = scene.pattern!;
  const left = 32, top = 24, room = Math.floor((width - left + 6) / n_head);
  const most = scene.place.large ? (n_head <= 6 ? 96 : scene.place.columns === 1 ? 48 : 72) : n_head <= 3 ? 104 : 88;
  let tile = Math.max(12, Math.min(most, room - (room > 56 ? 16 : 6)));
  if (n_tokens < tile && tile % n_tokens && n_tokens * Math.floor(tile / n_tokens) >= 0.6 * tile)
    tile = n_tokens * Math.floor(tile / n_tokens); // cells of whole pixels
  const words = tile >= scene.measure(head_name(n_layer - 1, n_head - 1), font(scene.theme)) + scene.measure(".00", font(scene.theme, { weight: 600 })) + 4;
  const pitch_x = Math.min(room, tile + (words ? 24 : 8)), pitch_y = tile + (words ? 34 : 8);
  return { width, height: top + n_layer * pitch_y + (words ? 0 : 4) + 8, left, top, tile, pitch_x, pitch_y, n_layer, n_head, n_tokens, words };
}

const corner = (grid: Grid, layer: number, head: number): [number, number] =>
  [grid.left + head * grid.pitch_x, grid.top + layer * grid.pitch_y];

function draw(ctx: CanvasRenderingContext2D, grid: Grid, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), dense = grid.pitch_x < 24;
  for (let head = 0; head < grid.n_head; head++)
    if (!dense || head % 2 === 0) pen.text(`H${head}`, corner(grid, 0, head)[0] + grid.tile / 2, 14, { align: "center" });
  for (let layer = 0; layer < grid.n_layer; layer++) {
    pen.text(`L${layer}`, 0, corner(grid, layer, 0)[1] + grid.tile / 2 + 4);
    for (let head = 0; head < grid.n_head; head++) draw_tile(pen, grid, scene, layer, head);
  }
}

function draw_tile(pen: Pen, grid: Grid, scene: Scene, layer: number, head: number): void {
  const { ctx, theme } = pen, [x, y] = corner(grid, layer, head);
  const scale = ctx.getTransform().a, size = Math.round(grid.tile * scale);
  const pixels = Math.min(size, scene.pattern!.n_tokens), shown = pixels < size ? size : pixels;
  const bytes = scene.pattern!.tile(layer, head, shown), image = new ImageData(shown, shown);
  const colours = new Uint32Array(image.data.buffer), n = grid.n_tokens;
  for (let row = 0; row < shown; row++) {
    const query = Math.floor((row * n) / shown);
    const end = Math.min(shown, Math.ceil(((query + 1) * shown) / n)); // masked cells stay empty
    for (let column = 0; column < end; column++)
      colours[row * shown + column] = theme.sequential.rgba[bytes[row * shown + column]!]!;
  }
  ctx.putImageData(image, Math.round(x * scale), Math.round(y * scale));
  pen.line(x - 0.5, y, x - 0.5, y + grid.tile + 1, theme.rule_2);
  pen.line(x - 1, y + grid.tile + 0.5, x + grid.tile, y + grid.tile + 0.5, theme.rule_2);
  if (scene.pattern!.broken(layer, head)) pen.strange(NaN, x + grid.tile - 16, y, 16);
}

function mark(ctx: CanvasRenderingContext2D, grid: Grid, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, look, selection, hover, pattern } = scene;
  const cell = grid.tile / grid.n_tokens;
  for (let layer = 0; layer < grid.n_layer; layer++)
    for (let head = 0; head < grid.n_head; head++) {
      const [x, y] = corner(grid, layer, head), row = y + (look.query + 0.5) * cell, column = x + (look.key + 0.5) * cell;
      if (!grid.words) continue;
      pen.line(x - 5, row, x - 1, row, theme.accent, Math.max(1.5, Math.min(3, cell)));
      pen.line(column, y + grid.tile + 1, column, y + grid.tile + 5, theme.ink, Math.max(1.5, Math.min(3, cell)));
      const most = pattern!.peak(layer, head, look.query);
      const lit = layer === look.layer && head === look.head;
      pen.text(head_name(layer, head), x, y + grid.tile + 18, { colour: lit ? theme.ink : theme.ink_2, weight: lit ? 600 : 400 });
      pen.text(short(most), x + grid.tile, y + grid.tile + 18, { align: "right", weight: 600, colour: theme.ink });
      pen.fill(x, y + grid.tile + 22, grid.tile, 2, theme.sunk);
      pen.fill(x, y + grid.tile + 22, grid.tile * Math.min(1, most || 0), 2, theme.ink_2);
    }
  outline(pen, grid, hover.layer != null && hover.head != null ? [hover.layer, hover.head] : null, false);
  outline(pen, grid, selection.layer != null && selection.head != null ? [selection.layer, selection.head] : null, true);
}

function outline(pen: Pen, grid: Grid, at: [number, number] | null, locked: boolean): void {
  if (!at || at[0] >= grid.n_layer || at[1] >= grid.n_head) return;
  const [x, y] = corner(grid, ...at), far = grid.words ? 7 : 3, foot = grid.words ? 27 : 2;
  const box = [x - far - 0.5, y - far + 0.5, grid.tile + 2 * far, grid.tile + far + foot] as const;
  pen.stroke(...box, locked ? pen.theme.accent : pen.theme.ink, locked ? 2 : 1, 6);
  if (locked && grid.words) pen.padlock(box[0] + box[2], box[1] + 9);
}

function hit(grid: Grid, x: number, y: number): Hit | null {
  const head = Math.floor((x - grid.left + 6) / grid.pitch_x), layer = Math.floor((y - grid.top + 4) / grid.pitch_y);
  const inside = head >= 0 && head < grid.n_head && layer >= 0 && layer < grid.n_layer;
  return inside ? { at: { layer, head } } : null;
}

function press(key: string, scene: Scene): Patch | null {
  const { layer, head } = scene.look, { n_layer, n_head } = scene.pattern!;
  const to: Record<string, [number, number]> = {
    ArrowLeft: [layer, head - 1], ArrowRight: [layer, head + 1], ArrowUp: [layer - 1, head], ArrowDown: [layer + 1, head],
    Home: [0, 0], End: [n_layer - 1, n_head - 1],
  };
  const [to_layer, to_head] = to[key] ?? [-1, -1];
  const inside = to_layer >= 0 && to_layer < n_layer && to_head >= 0 && to_head < n_head;
  return key in to ? { selection: inside ? { layer: to_layer, head: to_head } : {} } : null;
}

function subtitle(scene: Scene): string {
  const most = scene.tokens.length;
  return most > 96 ? `one tile per head, each pixel the largest of its cells` : scene.view.subtitle;
}

const grid: Panel<Grid> = {
  kind: "attention", name: "heads",
  slot: (scene) => (scene.place.large || scene.place.columns === 2 ? "left" : "centre"),
  heading: (scene) => ({ title: scene.view.title, subtitle: subtitle(scene) }),
  layout, draw, mark, hit, press,
  says({ look, pattern, tokens, selection }) {
    const key = pattern!.strongest(look.layer, look.head, look.query);
    const most = fixed(pattern!.peak(look.layer, look.head, look.query), 4);
    const locked = selection.layer === look.layer && selection.head === look.head ? ", locked" : "";
    return `Head ${head_name(look.layer, look.head)}${locked}: from ${quoted(tokens[look.query] ?? "")} most, ${most}, on ${quoted(tokens[key] ?? "")}.`;
  },
};

export const panels: Panel[] = [grid];
