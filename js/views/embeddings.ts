// Token and position embeddings as points to turn, with the nearest of a chosen one; and how alike positions are.
import { around } from "../colour.ts";
import { font, Pen } from "../paint.ts";
import type { Control, Hit, Panel, Patch, Sized } from "../panel.ts";
import type { NumberArray, View } from "../payload.ts";
import type { Scene } from "../scene.ts";
import { ellipsis, fixed, is_zero, quoted } from "../text.ts";

interface Cloud extends Sized { side: number; tall: number; list: { x: number; y: number; w: number } }

type What = "tokens" | "positions";

const what = ({ options }: Pick<Scene, "options">): What => options.what ?? "tokens";
const part = (scene: Pick<Scene, "detail" | "options">, name: string): NumberArray | undefined => scene.detail?.arrays[`${what(scene)}_${name}`];
const words_of = (scene: Pick<Scene, "detail" | "options">): string[] => scene.detail?.labels[what(scene)] ?? [];
const is_flat = (scene: Scene): boolean => scene.options.map !== "3d";

/** The point that is looked at: under the mouse, chosen here, or the token of the looked-at query. */
function chosen(scene: Scene): number {
  const { spot, options, look, view } = scene, own = options[`chosen_${what(scene)}`];
  if (typeof spot === "number") return spot;
  if (typeof own === "number" && own < words_of(scene).length) return own;
  return what(scene) === "positions" ? Math.min(look.query, words_of(scene).length - 1) : view.arrays.place?.values[look.query] ?? -1;
}

/** Coordinates between -1 and 1, seen from the chosen side: x, y and the depth towards the reader. */
export function project(scene: Pick<Scene, "detail" | "options">): [number, number, number][] {
  const { map = "2d", yaw = 0.6, pitch = 0.3 } = scene.options, array = part(scene, map === "2d" || map === "3d" ? "coordinates" : map) ?? part(scene, "coordinates")!;
  const [n, k] = array.shape as [number, number], value = (i: number, d: number) => array.values[i * k + d]!;
  let most = 1e-12;
  array.values.forEach((one) => { most = Math.max(most, Math.abs(one)); });
  const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
  return Array.from({ length: n }, (_, i) => {
    const [x, y, z] = [value(i, 0) / most, value(i, 1) / most, k > 2 ? value(i, 2) / most : 0];
    if (map !== "3d") return [x, -y, 0];
    const across = x * cy + z * sy, deep = z * cy - x * sy;
    return [across, -(y * cp - deep * sp), deep * cp + y * sp];
  });
}

/** The points whose name holds what is searched. */
export function found(scene: Pick<Scene, "detail" | "options">): number[] {
  const words = String(scene.options.find ?? "").replaceAll("·", " ").toLowerCase();
  if (!words) return [];
  return words_of(scene).flatMap((word, i) => (word.replaceAll("·", " ").toLowerCase().includes(words) ? [i] : []));
}

function layout(scene: Scene, width: number): Cloud {
  if (!scene.detail) return { width, height: 28, side: 0, tall: 0, list: { x: 0, y: 0, w: 0 } };
  const beside = width >= 520, side = beside ? width - 216 : width, tall = Math.min(440, Math.max(240, side * 0.8));
  return { width, height: tall + (beside ? 32 : 32 + 240), side, tall, list: beside ? { x: side + 24, y: 0, w: 192 } : { x: 0, y: tall + 36, w: width } };
}

const on_page = ({ side, tall }: Cloud, [x, y]: [number, number, number]): [number, number] => {
  const room = Math.min(side, tall) / 2 - 20;
  return [side / 2 + x * Math.min(room * 1.25, side / 2 - 24), tall / 2 + y * room];
};

function mark(ctx: CanvasRenderingContext2D, cloud: Cloud, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme } = scene;
  if (!scene.detail) return pen.text(scene.detail_words, 0, 18, { colour: theme.ink_3 });
  const points = project(scene), at = chosen(scene), hits = new Set(found(scene)), near = new Set(neighbours(scene, at).map(([i]) => i));
  const own = new Set(what(scene) === "tokens" ? Array.from(scene.view.arrays.place!.values) : scene.tokens.map((_, i) => i));
  const [x0, y0] = on_page(cloud, [0, 0, 0]);
  pen.stroke(0.5, 0.5, cloud.side - 1, cloud.tall - 1, theme.rule, 1, 6);
  pen.line(16, y0, cloud.side - 16, y0, theme.rule);
  pen.line(x0, 16, x0, cloud.tall - 16, theme.rule);
  ctx.save(); ctx.beginPath(); ctx.rect(1, 1, cloud.side - 2, cloud.tall - 2); ctx.clip();
  const order = points.map((_, i) => i).sort((a, b) => points[a]![2] - points[b]![2]);
  for (const i of order) {
    const [x, y] = on_page(cloud, points[i]!), depth = is_flat(scene) ? 0 : points[i]![2];
    pen.dot(x, y, i === at ? 6 : (own.has(i) ? 3.5 : 2.5) * (1 + 0.35 * depth), i === at ? theme.accent : hits.has(i) ? theme.series[1]! : own.has(i) ? theme.ink_2 : theme.rule_2);
  }
  names(pen, cloud, scene, points, [at, ...near, ...hits, ...own, ...points.keys()], at, hits);
  ctx.restore();
  axes(pen, cloud, scene);
  list(pen, cloud, scene, at);
}

/** Names where there is room, the important ones first. */
function names(pen: Pen, cloud: Cloud, scene: Scene, points: [number, number, number][], order: number[], at: number, hits: Set<number>): void {
  const { theme, measure } = scene, taken: [number, number, number][] = [], words = words_of(scene), done = new Set<number>();
  const dots = points.length <= 400 ? points.map((point) => on_page(cloud, point)) : []; // among more a name covers some
  for (const i of order) {
    if (i < 0 || done.has(i) || taken.length >= 60) continue;
    done.add(i);
    const [x, y] = on_page(cloud, points[i]!), lit = i === at, ink = { mono: true, weight: lit ? 700 : 400, colour: lit ? theme.accent : hits.has(i) ? theme.ink : theme.ink_2 } as const;
    const word = ellipsis(words[i]!, 88, font(theme, ink), measure), wide = measure(word, font(theme, ink));
    const free = (left: number) => left >= 4 && left + wide <= cloud.side - 4 && !taken.some(([from, to, line]) => left < to + 4 && left + wide > from - 4 && Math.abs(line - y) < 14)
      && !dots.some(([dx, dy], j) => j !== i && dx > left - 5 && dx < left + wide + 5 && Math.abs(dy - y) < 9);
    const left = [x + 8, x - 8 - wide].find(free) ?? (lit ? x + 8 : null);
    if (left === null) continue;
    taken.push([left, left + wide, y]);
    if (lit) pen.fill(left - 2, y - 8, wide + 4, 16, theme.paper, 3);
    pen.text(word, left, y + 4, ink);
  }
}

function axes(pen: Pen, cloud: Cloud, scene: Scene): void {
  const share = part(scene, "share")!.values, { map = "2d" } = scene.options, percent = (i: number) => `${Math.round(100 * share[i]!)} %`;
  const said = map === "2d" ? `→ component 1 (${percent(0)} of the variance)   ↑ component 2 (${percent(1)})`
    : map === "3d" ? `components 1, 2, 3: ${percent(0)}, ${percent(1)}, ${percent(2)} of the variance · drag to turn` : `${map}: distances between groups mean little`;
  pen.text(ellipsis(said, cloud.width, font(scene.theme), scene.measure), 0, cloud.tall + 20, { colour: scene.theme.ink_3 });
}

function neighbours(scene: Scene, at: number): [number, number][] {
  const near = part(scene, "near"), cosine = part(scene, "cosine"), k = near?.shape[1] ?? 0;
  return at < 0 ? [] : Array.from({ length: k }, (_, j): [number, number] => [near!.values[at * k + j]!, cosine!.values[at * k + j]!]);
}

/** From where to where the bar of a cosine goes, in pixels: from 0, which lies in the middle where one of the list is negative; the side shows however small it is. */
export function bar_of(cosine: number, negative: boolean, width: number): [from: number, to: number] {
  const zero = negative ? width / 2 : 0, end = zero + Math.sign(cosine) * Math.max(3, Math.abs(cosine) * (width - zero));
  return [Math.min(zero, end), Math.max(zero, end)];
}

const row_at = ({ list }: Cloud, i: number): number => list.y + 30 + i * 26;

function list(pen: Pen, cloud: Cloud, scene: Scene, at: number): void {
  const { theme, measure } = scene, { x, y, w } = cloud.list, words = words_of(scene), mono = { mono: true, colour: theme.ink } as const;
  if (at < 0) return pen.text("Choose a point.", x, y + 14, { colour: theme.ink_3 });
  const title = `Nearest to ${what(scene) === "positions" ? `position ${words[at]}` : quoted(words[at]!)}`, bold = { weight: 600, colour: theme.ink } as const;
  pen.text(ellipsis(title, w - 12 - pen.width("cosine"), font(theme, bold), measure), x, y + 14, bold);
  const near = neighbours(scene, at), negative = near.some(([, cosine]) => cosine < 0 && !is_zero(fixed(cosine, 2))), left = x + 92, wide = w - 92 - 48;
  near.forEach(([i, cosine], j) => {
    const said = fixed(cosine, 2), [from, to] = bar_of(is_zero(said) ? 0 : cosine, negative, wide);
    pen.text(ellipsis(words[i]!, 84, font(theme, mono), measure), x, row_at(cloud, j) + 11, mono);
    pen.fill(left, row_at(cloud, j) + 2, wide, 10, theme.sunk, 2);
    pen.fill(left + from, row_at(cloud, j) + 2, to - from, 10, theme.ink_3, 2);
    if (negative) pen.line(left + wide / 2, row_at(cloud, j), left + wide / 2, row_at(cloud, j) + 14, theme.ink_2);
    pen.text(said, x + w, row_at(cloud, j) + 11, { align: "right", colour: theme.ink });
  });
  pen.text("cosine", x + w, y + 14, { align: "right", colour: theme.ink_3 });
}

function hit(cloud: Cloud, x: number, y: number, scene: Scene): Hit | null {
  if (!scene.detail) return null;
  const { options } = scene, { list } = cloud, row = Math.floor((y - list.y - 26) / 26), near = neighbours(scene, chosen(scene));
  if (x >= list.x && y >= list.y + 26 && near[row] && x <= list.x + list.w) return { at: {}, options: { [`chosen_${what(scene)}`]: near[row]![0] } };
  if (x > cloud.side || y > cloud.tall) return null;
  let best = -1, least = 12;
  project(scene).forEach((point, i) => {
    const [px, py] = on_page(cloud, point), far = Math.hypot(px - x, py - y);
    if (far < least) { least = far; best = i; }
  });
  if (best >= 0) return { at: {}, spot: best, options: { [`chosen_${what(scene)}`]: best } };
  return is_flat(scene) ? null : { at: {}, drag: "turn", options: { from: [x, y, options.yaw ?? 0.6, options.pitch ?? 0.3] } };
}

function drag(_cloud: Cloud, _hit: Hit, x: number, y: number, { options }: Scene): Patch {
  const [x0, y0, yaw, pitch] = options.from ?? [x, y, 0.6, 0.3];
  return { options: { yaw: yaw + (x - x0) / 120, pitch: Math.max(-1.5, Math.min(1.5, pitch + (y - y0) / 120)) } };
}

function press(key: string, scene: Scene): Patch | null {
  const { yaw = 0.6, pitch = 0.3 } = scene.options, turn = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] }[key];
  if (key === "Enter") {
    const all = found(scene), next = all.find((i) => i > chosen(scene)) ?? all[0];
    return next === undefined ? null : { options: { [`chosen_${what(scene)}`]: next } };
  }
  if (turn && !is_flat(scene)) return { options: { yaw: yaw + turn[0]!, pitch: Math.max(-1.5, Math.min(1.5, pitch + turn[1]!)) } };
  const n = words_of(scene).length, step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[key];
  return step && n ? { options: { [`chosen_${what(scene)}`]: (chosen(scene) + step + n) % n } } : null;
}

function controls(scene: Scene): Control[] {
  const maps = (["tsne", "umap"] as const).filter((name) => part(scene, name)).map((name): [string, string] => [name, { tsne: "t-SNE", umap: "UMAP" }[name]]);
  return [
    { kind: "choice", name: "what", label: "of", choices: [["tokens", "tokens"], ["positions", "positions"]] },
    { kind: "choice", name: "map", label: "map", choices: [["2d", "PCA, 2-D"], ["3d", "PCA, 3-D"], ...maps] },
    { kind: "search", name: "find", label: "find", hint: "a token, then Enter" },
  ];
}

const embeddings: Panel<Cloud> = {
  kind: "embeddings", name: "embeddings", folded: true, half: true, tall: () => 520, options: { what: "tokens", map: "2d", find: "" }, controls,
  slot: () => "below",
  heading: (scene) => {
    const n = found(scene).length;
    return { title: scene.view.title, subtitle: scene.options.find ? `${n} ${n === 1 ? "match" : "matches"} · Enter goes on` : scene.view.subtitle };
  },
  layout, draw() {}, mark, hit, drag, press,
  says(scene) {
    const at = chosen(scene), words = words_of(scene);
    if (!scene.detail || at < 0) return scene.detail_words || "Choose a point.";
    return `Nearest to ${quoted(words[at]!)} by cosine: ${neighbours(scene, at).map(([i, cosine]) => `${quoted(words[i]!)} ${fixed(cosine, 2)}`).join(", ")}.`;
  },
};

// --- positions --------------------------------------------------------------------------------------------

interface Square extends Sized { x: number; y: number; side: number; n: number }

/** Of a long model not every position is drawn. */
export function apart(detail: Pick<View, "arrays"> | null): string {
  const [first, second] = detail?.arrays.places?.values ?? [];
  return second! - first! > 1 ? ` · one position in ${second! - first!} is drawn` : "";
}

const positions: Panel<Square> = {
  kind: "positions", name: "positions", folded: true, half: true, tall: () => 580,
  slot: () => "below",
  heading: ({ view, detail }) => ({ title: view.title, subtitle: view.subtitle + apart(detail) }),
  layout(scene, width) {
    const n = scene.detail?.arrays.places!.values.length ?? 0, side = Math.min(440, width - 100);
    return { width, height: n ? side + 104 : 28, x: 84, y: 44, side, n };
  },
  draw(ctx, { x, y, side, n }, scene) {
    const pen = new Pen(ctx, scene.theme), { theme } = scene;
    if (!scene.detail) return pen.text(scene.detail_words, 0, 18, { colour: theme.ink_3 });
    const { values } = scene.detail.arrays.cosine!, places = scene.detail.arrays.places!.values, cell = side / n, gap = cell > 8 ? 1 : 0;
    for (let row = 0; row < n; row++)
      for (let column = 0; column < n; column++)
        pen.fill(x + column * cell, y + row * cell, Math.ceil(cell) - gap, Math.ceil(cell) - gap, theme.diverging.css[around(values[row * n + column]! || 0, 1)]!);
    pen.stroke(x - 1.5, y - 1.5, side + 2, side + 2, theme.rule_2); // where cells near 0 end and the paper begins
    pen.text("position →", x, 14, { weight: 500, colour: theme.ink });
    pen.text("position ↓", x - 12, y - 6, { align: "right", weight: 500, colour: theme.ink });
    const every = Math.max(1, Math.ceil(n / 8));
    for (let i = 0; i < n; i += every) {
      pen.text(String(places[i]), x - 6, y + (i + 0.5) * cell + 4, { align: "right" });
      pen.text(String(places[i]), x + (i + 0.5) * cell, y - 6, { align: "center" });
    }
    pen.legend(x, y + side + 16, Math.min(240, side), theme.diverging, ["−1", "0", "1"]);
    pen.text("cosine of two positions", x + Math.min(240, side) + 16, y + side + 25);
  },
  stale: ({ detail, detail_words }) => (detail ? "here" : detail_words),
  mark(ctx, { x, y, side, n, width }, scene) {
    const pair = pair_of(scene), cell = side / n;
    if (!pair || !n) return;
    const pen = new Pen(ctx, scene.theme), [row, column] = pair;
    pen.stroke(x + column * cell - 1.5, y + row * cell - 1.5, cell + 3, cell + 3, scene.spot ? scene.theme.ink : scene.theme.accent, 2, 3);
    pen.text(ellipsis(pair_words(scene, pair), width - x, font(scene.theme, { size: 13 }), scene.measure), x, y + side + 58, { size: 13, colour: scene.theme.ink });
  },
  hit({ x, y, side, n }, mx, my) {
    const row = Math.floor(((my - y) / side) * n), column = Math.floor(((mx - x) / side) * n);
    return row >= 0 && row < n && column >= 0 && column < n ? { at: {}, spot: [row, column] } : null;
  },
  says(scene) {
    const pair = pair_of(scene);
    return scene.detail && pair ? pair_words(scene, pair) : scene.detail_words || scene.view.subtitle;
  },
};

/** The pair under the mouse; else the looked-at query and key. */
function pair_of({ spot, detail, look }: Scene): [number, number] | null {
  if (spot) return spot as [number, number];
  const places = detail ? Array.from(detail.arrays.places!.values) : [], row = places.indexOf(look.query), column = places.indexOf(look.key);
  return row >= 0 && column >= 0 ? [row, column] : null;
}

function pair_words({ detail }: Scene, [row, column]: [number, number]): string {
  const { places, cosine } = detail!.arrays, n = places!.values.length;
  return `Positions ${places!.values[row]} and ${places!.values[column]}: cosine ${fixed(cosine!.values[row * n + column]!, 4)}.`;
}

export const panels: Panel[] = [embeddings, positions];
