// Query-to-key lines beside the text: of one head or of several, each with a letter, a colour and a dash of its own.
import { font, Pen } from "../paint.ts";
import type { Control, Hit, Panel, Patch, Sized } from "../panel.ts";
import type { Scene } from "../scene.ts";
import { ellipsis, fixed, head_name, quoted, short, wrap } from "../text.ts";

export type Side = "query" | "key";
export interface Pin { side: Side; at: number }
type Place = [layer: number, head: number];
interface Chip { x: number; y: number; place: Place | null }
interface Columns extends Sized { top: number; pitch: number; n: number; query: number; key: number; left: number; right: number; name: number; bar: number; chips: Chip[]; chip: number }
interface Spot { side?: Side; chip?: number }

const pitch = 20, chip_height = 26, widest_chip = 168, bar = 44, letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/** Weights below this are not drawn, and the caption says so: of one token nearly all, of a whole window the larger ones. */
const faintest = (filter: Pin | null): number => (filter ? 0.002 : 0.02);

/** The heads whose lines are drawn. */
export function heads_of({ look, pattern, options }: Pick<Scene, "look" | "pattern" | "options">): Place[] {
  if (options.heads === "layer") return Array.from({ length: pattern!.n_head }, (_, head): Place => [look.layer, head]);
  if (options.heads === "pinned") return (options.pinned as Place[]).filter(([layer, head]) => layer < pattern!.n_layer && head < pattern!.n_head);
  return [[look.layer, look.head]];
}

/** Which lines: those of the token under the mouse, else of the pinned one, else all of the window. */
export function filter_of({ hover, options, tokens, spot, look }: Pick<Scene, "hover" | "options" | "tokens" | "spot" | "look">): Pin | null {
  const side = (spot as Spot | undefined)?.side;
  if (side) return { side, at: look[side] };
  if (hover.query != null) return { side: "query", at: look.query };
  if (hover.key != null) return { side: "key", at: look.key };
  const pin = options.pin as Pin | null;
  return pin && pin.at < tokens.length ? pin : null;
}

/** How many chips the legend has room for: as many as can be chosen, so that it does not jump. */
const chip_count = ({ pattern, options }: Scene): number =>
  options.heads === "layer" ? pattern!.n_head : options.heads === "pinned" ? Math.max(1, options.pinned.length) : 1;

function layout(scene: Scene, width: number): Columns {
  const { place, tokens, measure, theme, corner } = scene, n = Math.min(place.window, tokens.length), count = chip_count(scene);
  const per_row = Math.max(1, Math.floor(width / widest_chip)), chip = Math.floor(width / Math.min(per_row, Math.max(1, count)));
  const chips = Array.from({ length: count }, (_, i) => ({ x: (i % per_row) * Math.min(chip, widest_chip), y: Math.floor(i / per_row) * chip_height, place: null }));
  const widest = Math.max(8, ...(tokens.length > 600 ? tokens.slice(0, 600) : tokens).map((token) => measure(token.slice(0, 24), font(theme, { mono: true }))));
  const name = Math.max(56, Math.min(widest + 12, 112, width * 0.24)), top = Math.ceil(count / per_row) * chip_height + 52;
  const room = 8 * String(tokens.length).length + 10 + bar;
  return { width, height: top + n * pitch + (width < 560 ? 78 : 60), top, pitch, n, ...corner, left: room + name, right: width - room - name, name, bar, chips, chip: widest_chip };
}

const y_of = (columns: Columns, side: Side, at: number) => columns.top + (at - columns[side]) * pitch + pitch / 2;
const within = (columns: Columns, side: Side, at: number) => at >= columns[side] && at < columns[side] + columns.n;

/** The lines that pass the filter and the window, as [query, key, weight]; and how many rows are not here. */
export function lines_of({ pattern }: Pick<Scene, "pattern">, [layer, head]: Place, filter: Pin | null, window: { query: number; key: number; n: number }): { lines: [number, number, number][]; absent: number; broken: number } {
  const lines: [number, number, number][] = [], last = pattern!.n_tokens;
  let absent = 0, broken = 0;
  const queries = filter?.side === "query" ? [filter.at] : Array.from({ length: Math.min(window.n, last - window.query) }, (_, i) => window.query + i);
  for (const query of queries) {
    if (query < window.query || query >= window.query + window.n) continue;
    if (filter?.side === "key" && filter.at > query) continue;
    if (!pattern!.has(layer, head, query)) { absent++; continue; }
    const [first, end] = filter?.side === "key" ? [filter.at, filter.at + 1] : [window.key, Math.min(window.key + window.n, query + 1)];
    for (let key = first; key < end; key++) {
      const p = pattern!.weight(layer, head, query, key);
      if (!Number.isFinite(p)) broken++;
      else if (p >= faintest(filter)) lines.push([query, key, p]);
    }
  }
  return { lines, absent, broken };
}

/** What a head gives to the filter: of the chosen query, its weight on the looked-at key; of the chosen key, the mean over the window's later queries. */
export function marginal({ pattern, look }: Pick<Scene, "pattern" | "look">, [layer, head]: Place, filter: Pin | null, window: { query: number; n: number }): number {
  if (filter?.side !== "key") return look.key > look.query || !pattern!.has(layer, head, look.query) ? NaN : pattern!.weight(layer, head, look.query, look.key);
  let sum = 0, count = 0;
  for (let query = Math.max(filter.at, window.query); query < Math.min(pattern!.n_tokens, window.query + window.n); query++) {
    if (!pattern!.has(layer, head, query)) return NaN;
    sum += pattern!.weight(layer, head, query, filter.at);
    count++;
  }
  return sum / count; // NaN where no later query is in the window
}

/** Of each token of the window, the weight of the lines that are drawn from or to it: the mean over the heads. */
export function token_shares(all: [number, number, number][][], filter: Pin | null): Record<Side, Map<number, number>> {
  const shares = { query: new Map<number, number>(), key: new Map<number, number>() };
  for (const lines of all)
    for (const [query, key, p] of lines) {
      shares.query.set(query, (shares.query.get(query) ?? 0) + p / all.length);
      shares.key.set(key, (shares.key.get(key) ?? 0) + p / all.length);
    }
  if (!filter) for (const [key, sum] of shares.key) shares.key.set(key, sum / Math.max(1, new Set(all.flat().map(([query]) => query)).size));
  return shares;
}

const colour_of = (scene: Scene, i: number) => scene.theme.series[i % 4]!;
const dashes = [[], [7, 3], [2, 3], [10, 3, 2, 3], [4, 4], [1, 2]];
const dash_of = (i: number): number[] => dashes[Math.floor(i / 4) % dashes.length]!;

function mark(ctx: CanvasRenderingContext2D, columns: Columns, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), filter = filter_of(scene), heads = heads_of(scene), found = heads.map((head) => lines_of(scene, head, filter, columns));
  const all = found.map((one) => one.lines), shares = token_shares(all, filter), dense = all.reduce((sum, lines) => sum + lines.length, 0) > 60 && !filter;
  draw_columns(pen, columns, scene, filter, shares);
  heads.forEach((_, i) => draw_lines(pen, columns, scene, all[i]!, i, heads.length, dense));
  if (filter) heads.forEach((_, i) => draw_letters(pen, columns, scene, all[i]!, i, filter));
  heads.forEach((place, i) => draw_chip(pen, columns, scene, place, i, filter));
  if (!heads.length) pen.text("No head is pinned: choose this head or all heads, and click a head's letter (or press P).", 0, 17, { colour: scene.theme.ink_3 });
  if (heads.length && !all.some((lines) => lines.length) && !found.some((one) => one.absent))
    pen.text(`no weight ${filter ? "of this token" : "here"} reaches ${faintest(filter)}`, (columns.left + columns.right) / 2, columns.top + 24, { align: "center", colour: scene.theme.ink_3 });
  draw_foot(pen, columns, scene, found.reduce((sum, one) => sum + one.absent, 0), found.reduce((sum, one) => sum + one.broken, 0), heads, highest(shares));
}

function draw_columns(pen: Pen, columns: Columns, scene: Scene, filter: Pin | null, shares: Record<Side, Map<number, number>>): void {
  const { theme, tokens, look, measure } = scene, head_y = columns.top - 10;
  const high = highest(shares);
  pen.text("query (attends)", columns.left, head_y, { align: "right", weight: 500, colour: theme.ink });
  pen.text("key (attended to)", columns.right, head_y, { weight: 500, colour: theme.ink });
  for (const side of ["query", "key"] as const)
    for (let at = columns[side]; at < columns[side] + columns.n; at++) {
      const lit = filter?.side === side && filter.at === at, y = y_of(columns, side, at) + 4, share = shares[side].get(at) ?? 0, to_left = side === "query";
      const colour = lit ? theme.accent : at === look[side] ? theme.ink : theme.ink_2, weight = lit || at === look[side] ? 700 : 400, ink = { mono: true, colour, weight };
      const word = ellipsis(tokens[at]!, columns.name - 10, font(theme, ink), measure), x = to_left ? columns.left - 6 : columns.right + 6;
      pen.text(word, x, y, { ...ink, align: to_left ? "right" : "left" });
      pen.text(String(at), to_left ? columns.left - columns.name - 4 : columns.right + columns.name + 4, y, { align: to_left ? "right" : "left", colour: lit ? theme.accent : theme.ink_3 });
      const length = Math.min(1, share / high) * columns.bar;
      pen.fill(to_left ? 0 : columns.width - columns.bar, y - 9, columns.bar, 10, theme.sunk, 2);
      if (length >= 0.5) pen.fill(to_left ? columns.bar - length : columns.width - columns.bar, y - 9, length, 10, theme.ink_3, 2);
      const pin = scene.options.pin as Pin | null;
      if (pin && pin.side === side && pin.at === at) pen.stroke((to_left ? columns.left - columns.name : columns.right) + 0.5, y - 13.5, columns.name - 1, 18, theme.accent, 2, 3);
    }
}

const highest = (shares: Record<Side, Map<number, number>>): number => Math.max(0.01, ...shares.query.values(), ...shares.key.values());

function draw_lines(pen: Pen, columns: Columns, scene: Scene, lines: [number, number, number][], i: number, of: number, dense: boolean): void {
  const { ctx } = pen, shift = of > 1 ? Math.max(-7, Math.min(7, (i - (of - 1) / 2) * 2.5)) : 0;
  for (const [query, key, p] of lines) {
    if (dense && p < 0.08) continue;
    ctx.globalAlpha = dense ? 0.1 + 0.75 * p : 0.25 + 0.75 * p;
    pen.line(columns.left + 2, y_of(columns, "query", query) + shift, columns.right - 2, y_of(columns, "key", key) + shift, colour_of(scene, i), 0.75 + 4.5 * p, dash_of(i));
  }
  ctx.globalAlpha = 1;
}

/** The head's letter on its strongest line, near the token that is not chosen; letters step aside for one another. */
function draw_letters(pen: Pen, columns: Columns, scene: Scene, lines: [number, number, number][], i: number, filter: Pin): void {
  const best = lines.reduce<[number, number, number] | null>((most, one) => (!most || one[2] > most[2] ? one : most), null);
  if (!best || best[2] < 0.08) return;
  const [query, key] = best, along = filter.side === "query" ? 1 : -1, share = 0.5 + along * (0.4 - 0.05 * (i % 8));
  const x = columns.left + share * (columns.right - columns.left), y = y_of(columns, "query", query) + share * (y_of(columns, "key", key) - y_of(columns, "query", query));
  badge(pen, scene, x, y, i);
}

function badge(pen: Pen, scene: Scene, x: number, y: number, i: number): void {
  const words = letters[i % 26]! + (i >= 26 ? String(Math.floor(i / 26) + 1) : "");
  pen.dot(x, y, 10, pen.theme.paper);
  pen.dot(x, y, 8.5, colour_of(scene, i));
  pen.text(words, x, y + 4, { align: "center", weight: 700, colour: pen.theme.paper });
}

function draw_chip(pen: Pen, columns: Columns, scene: Scene, place: Place, i: number, filter: Pin | null): void {
  const chip = columns.chips[i], { theme, look } = scene;
  if (!chip) return;
  const value = marginal(scene, place, filter, columns), pinned = is_pinned(scene.options.pinned, place), own = place[0] === look.layer && place[1] === look.head;
  badge(pen, scene, chip.x + 9, chip.y + 12, i);
  pen.line(chip.x + 21, chip.y + 12.5, chip.x + 37, chip.y + 12.5, colour_of(scene, i), 3, dash_of(i));
  pen.text(head_name(...place), chip.x + 42, chip.y + 16, { weight: own ? 600 : 400, colour: own ? theme.accent : theme.ink });
  pen.bar(chip.x + 84, chip.y + 7, 36, 10, Number.isFinite(value) ? value : 0, colour_of(scene, i));
  pen.text(Number.isNaN(value) ? "–" : fixed(value, 3), chip.x + 124, chip.y + 16, { colour: theme.ink });
  if (pinned) pen.stroke(chip.x + 0.5, chip.y + 0.5, widest_chip - 14, chip_height - 3, theme.ink_3, 1.5, 4);
}

const is_pinned = (pinned: Place[], [layer, head]: Place): boolean => pinned.some(([l, h]) => l === layer && h === head);

/** What the numbers of the heads say. */
function caption({ look }: Scene, filter: Pin | null): string {
  return filter?.side === "key" ? `Beside each head: what the window's queries from ${filter.at} on give to key ${filter.at}, their mean.` : `Beside each head: its weight from query ${look.query} on key ${look.key}.`;
}

function draw_foot(pen: Pen, columns: Columns, scene: Scene, absent: number, broken: number, heads: Place[], high: number): void {
  const y = columns.top + columns.n * pitch + 18, { theme } = scene, filter = filter_of(scene);
  if (!within(columns, "query", scene.look.query) && filter?.side === "query") pen.text(`Query ${filter.at} stands outside the window.`, 0, y, { colour: theme.ink });
  else pen.text(heads.length ? caption(scene, filter) : "", 0, y, { colour: theme.ink_2 });
  const notes = [`Width: attention 0–1, from ${faintest(filter)} on. Grey bars: 0–${short(high)}, the weight of the lines at a token${heads.length > 1 ? ", mean of the heads" : ""}.`];
  if (absent) notes.push(`${absent} rows are not here yet: look at their heads${scene.detail_words ? ` (${scene.detail_words})` : ""}.`);
  if (broken) notes.push(`${broken} weights are not finite.`);
  const words = wrap(notes.reverse().join(" "), columns.width - 12, font(theme), scene.measure);
  words.slice(0, 3).forEach((line, i) => pen.text(line, 0, y + 18 + 17 * i, { colour: absent || broken ? theme.ink : theme.ink_3 }));
}

function hit(columns: Columns, x: number, y: number, scene: Scene): Hit | null {
  const { options } = scene, heads = heads_of(scene), chip = columns.chips.findIndex((one) => x >= one.x && x < one.x + columns.chip - 8 && y >= one.y && y < one.y + chip_height);
  if (chip >= 0 && heads[chip]) return { at: { layer: heads[chip][0], head: heads[chip][1] }, spot: { chip }, options: { pinned: toggled(options.pinned, heads[chip]) } };
  const row = Math.floor((y - columns.top) / pitch);
  if (row < 0 || row >= columns.n) return null;
  const side: Side | null = x < columns.left ? "query" : x > columns.right ? "key" : null;
  if (!side) return null;
  const at = columns[side] + row, pin = options.pin as Pin | null, same = pin?.side === side && pin.at === at;
  return { at: side === "query" ? { query: at } : { key: at }, spot: { side }, options: { pin: same ? null : { side, at } } };
}

const toggled = (pinned: Place[], place: Place): Place[] =>
  is_pinned(pinned, place) ? pinned.filter(([layer, head]) => layer !== place[0] || head !== place[1]) : [...pinned, place];

/** Up and down choose the query, left and right the head of the layer; Enter pins the query, P the head. */
export function walk_lines(key: string, { look, tokens, pattern, options }: Pick<Scene, "look" | "tokens" | "pattern" | "options">): Patch | null {
  const last = tokens.length - 1, to: Record<string, number> = { ArrowUp: look.query - 1, ArrowDown: look.query + 1, Home: 0, End: last };
  if (key in to) {
    const query = Math.max(0, Math.min(last, to[key]!));
    return { selection: { query, key: null }, options: options.pin?.side === "query" ? { pin: { side: "query", at: query } } : {} };
  }
  if (key === "ArrowLeft" || key === "ArrowRight") return { selection: { layer: look.layer, head: (look.head + (key === "ArrowLeft" ? pattern!.n_head - 1 : 1)) % pattern!.n_head } };
  if (key === "Enter") return { options: { pin: options.pin?.side === "query" && options.pin.at === look.query ? null : { side: "query", at: look.query } } };
  return key.toLowerCase() === "p" ? { options: { pinned: toggled(options.pinned, [look.layer, look.head]) } } : null;
}

const controls = ({ options }: Scene): Control[] => [{ kind: "choice", name: "heads", label: "lines of",
  choices: [["one", "this head"], ["layer", "all heads of the layer"], ["pinned", "pinned heads"]] },
  ...(options.pin || options.pinned.length ? [{ kind: "button" as const, name: "unpin", label: "Unpin all", set: { pin: null, pinned: [] } }] : [])];

const lines: Panel<Columns> = {
  kind: "attention", name: "lines", half: true, tall: ({ place, tokens }) => 140 + pitch * Math.min(place.window, tokens.length),
  options: { heads: "one", pinned: [], pin: null },
  slot: () => "below",
  heading: () => ({ title: "Lines", subtitle: "point at a token to see its lines, click to pin it; click a head to pin it" }),
  controls, layout,
  draw() {},
  mark, hit, press: walk_lines,
  says(scene) {
    const filter = filter_of(scene), { tokens, look } = scene, heads = heads_of(scene);
    if (!heads.length) return "No head is pinned.";
    const words = heads.map((place, i) => `${letters[i % 26]} ${head_name(...place)} ${fixed(marginal(scene, place, filter, { query: scene.corner.query, n: scene.place.window }), 3)}`).join(", ");
    const what = filter?.side === "key" ? `Lines to key ${filter.at}, ${quoted(tokens[filter.at]!)}; mean weight` : `${filter ? "Lines from" : "All lines; from"} query ${look.query}, ${quoted(tokens[look.query] ?? "")}; weight on key ${look.key}, ${quoted(tokens[look.key] ?? "")}`;
    return `${what}: ${words}.`;
  },
};

export const panels: Panel[] = [lines];
