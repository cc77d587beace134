// Query-to-key lines beside the text: of one head or of several, each with a letter, a colour and a dash of its own.
import { faintest, filter_of, gates_of, heads_of, lines_of, marginal, own_rows, thinned, token_shares } from "../line_weights.ts";
import type { Found, Gates, Line, Pin, Place, Side, Window } from "../line_weights.ts";
import { font, Pen } from "../paint.ts";
import type { Control, Hit, Panel, Patch, Sized } from "../panel.ts";
import type { Scene } from "../scene.ts";
import { ellipsis, fixed, head_name, precise, quoted, whole, wrap } from "../text.ts";

interface Chip { x: number; y: number; place: Place | null }
interface Columns extends Sized {
  n: number; query: number; key: number; left: number; right: number; name: number; bar: number; chips: Chip[]; chip: number;
  /** The rows of the window begin at `top`; above and below it are rows for keys outside the window, where there are such keys. */
  top: number; bottom: number; pitch: number; before: boolean; after: boolean;
}
/** All that the mouse may change in the picture. */
interface Drawn { filter: Pin | null; heads: Place[]; all: Found[]; from: number; left_out: number; gates: Gates; shares: Record<Side, Map<number, number>> }

const pitch = 20, chip_height = 26, widest_chip = 168, bar = 44, axis = 24, line_height = 17, letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const outer_rows = own_rows + 1; // of each side: the strongest keys, and the others together

/** How many chips the legend has room for: as many as can be chosen, so that it does not jump. */
const chip_count = ({ pattern, options }: Scene): number =>
  options.heads === "layer" ? pattern!.n_head : options.heads === "pinned" ? Math.max(1, options.pinned.length) : 1;

function layout(scene: Scene, width: number): Columns {
  const { place, tokens, measure, theme, corner } = scene, n = Math.min(place.window, tokens.length), count = chip_count(scene);
  const per_row = Math.max(1, Math.floor(width / widest_chip)), chip = Math.floor(width / Math.min(per_row, Math.max(1, count)));
  const chips = Array.from({ length: count }, (_, i) => ({ x: (i % per_row) * Math.min(chip, widest_chip), y: Math.floor(i / per_row) * chip_height, place: null }));
  const widest = Math.max(8, ...(tokens.length > 600 ? tokens.slice(0, 600) : tokens).map((token) => measure(token.slice(0, 24), font(theme, { mono: true }))));
  const name = Math.max(56, Math.min(widest + 12, 112, width * 0.24)), before = corner.key > 0, after = corner.key + n < Math.min(tokens.length, corner.query + n);
  const top = Math.ceil(count / per_row) * chip_height + 52 + (before ? outer_rows * pitch : 0), bottom = top + n * pitch;
  const room = 8 * String(tokens.length).length + 10 + bar, foot = foot_lines(scene, width, longest_notes(scene)).length;
  return { width, height: bottom + (after ? outer_rows * pitch : 0) + axis + 6 + foot * line_height, top, bottom, pitch, n, ...corner, before, after,
           left: room + name, right: width - room - name, name, bar, chips, chip: widest_chip };
}

const y_of = (columns: Columns, side: Side, at: number) => columns.top + (at - columns[side]) * pitch + pitch / 2;
const within = (columns: Columns, side: Side, at: number) => at >= columns[side] && at < columns[side] + columns.n;

/** The middle of a row outside the window: the strongest keys stand next to it, the others beyond them. */
function outer_y(columns: Columns, gates: Gates, key: number): number {
  const early = key < columns.key, own = (early ? gates.before : gates.after).indexOf(key);
  if (early) return columns.top - (own < 0 ? outer_rows : gates.before.length - own) * pitch + pitch / 2;
  return columns.bottom + (own < 0 ? own_rows : own) * pitch + pitch / 2;
}

const key_y = (columns: Columns, gates: Gates, key: number): number => (within(columns, "key", key) ? y_of(columns, "key", key) : outer_y(columns, gates, key));

function drawn_of(scene: Scene, columns: Columns): Drawn {
  const filter = filter_of(scene), found = found_of(scene, columns, filter), { all, from, left_out } = thinned(found, filter, scene.look.query);
  return { filter, heads: heads_of(scene), all, from, left_out, gates: gates_now(scene, columns, filter ? undefined : found), shares: token_shares(all) };
}

const found_of = (scene: Scene, window: Window, filter: Pin | null): Found[] => heads_of(scene).map((head) => lines_of(scene, head, filter, window));

/** The rows for keys outside the window; `all` are the lines of the heads without a filter, where they are here already. */
const gates_now = (scene: Scene, columns: Columns, all?: Found[]): Gates =>
  columns.n < scene.tokens.length ? gates_of(all ?? found_of(scene, columns, null), columns) : { before: [], after: [] };

const all_lines = ({ lines, outside }: Found): Line[] => [...lines, ...outside];

const colour_of = (scene: Scene, i: number) => scene.theme.series[i % 4]!;
const dashes = [[], [7, 3], [2, 3], [10, 3, 2, 3], [4, 4], [1, 2]];
const dash_of = (i: number): number[] => dashes[Math.floor(i / 4) % dashes.length]!;

function mark(ctx: CanvasRenderingContext2D, columns: Columns, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), drawn = drawn_of(scene, columns), { filter, heads, all } = drawn;
  draw_columns(pen, columns, scene, drawn);
  draw_outside(pen, columns, scene, drawn);
  heads.forEach((_, i) => draw_lines(pen, columns, scene, drawn, i));
  if (filter) heads.forEach((_, i) => draw_letters(pen, columns, scene, drawn, i));
  heads.forEach((place, i) => draw_chip(pen, columns, scene, place, i, filter));
  if (!heads.length) pen.text("No head is pinned: choose this head or all heads, and click a head's letter (or press P).", 0, 17, { colour: scene.theme.ink_3 });
  if (heads.length && !all.some((one) => all_lines(one).length) && !all.some((one) => one.absent))
    pen.text(`no weight ${filter ? "of this token" : "here"} reaches ${drawn.from}`, (columns.left + columns.right) / 2, columns.top + 24, { align: "center", colour: scene.theme.ink_3 });
  draw_foot(pen, columns, scene, drawn);
}

/** What a query gives to the keys outside the window that have no row of their own. */
function other_share({ filter, gates, shares }: Drawn, columns: Columns, early: boolean): number {
  const others = [...shares.key].filter(([key]) => !within(columns, "key", key) && key < columns.key === early && !gates.before.includes(key) && !gates.after.includes(key));
  return filter?.side === "query" ? others.reduce((sum, [, share]) => sum + share, 0) : 0;
}

/** Of the right bars: they end at the largest. Those of the queries end at 1, all of a query's attention. */
const highest = (drawn: Drawn, columns: Columns): number => Math.max(0.01, ...drawn.shares.key.values(), other_share(drawn, columns, true), other_share(drawn, columns, false));

function draw_columns(pen: Pen, columns: Columns, scene: Scene, drawn: Drawn): void {
  const { theme } = scene, head_y = columns.top - (columns.before ? outer_rows * pitch : 0) - 10;
  pen.text("query (attends)", columns.left, head_y, { align: "right", weight: 500, colour: theme.ink });
  pen.text("key (attended to)", columns.right, head_y, { weight: 500, colour: theme.ink });
  for (const side of ["query", "key"] as const)
    for (let at = columns[side]; at < columns[side] + columns.n; at++) draw_token(pen, columns, scene, drawn, side, at, y_of(columns, side, at));
  draw_axis(pen, 0, columns.bar, columns.bottom, ["1", "0"]);
  draw_axis(pen, columns.width - columns.bar, columns.bar, columns.bottom + (columns.after ? outer_rows * pitch : 0), ["0", precise(highest(drawn, columns)).replace(/^0/, "")]);
}

/** Below the bars of a side: the ends of their scale. */
function draw_axis(pen: Pen, x: number, width: number, y: number, [first, last]: [string, string]): void {
  pen.line(x, y + 1.5, x + width, y + 1.5, pen.theme.rule_2);
  pen.text(first, x, y + 14, { colour: pen.theme.ink_3 });
  pen.text(last, x + width, y + 14, { align: "right", colour: pen.theme.ink_3 });
}

/** A token of either side with its position and the bar of what its lines carry. */
function draw_token(pen: Pen, columns: Columns, scene: Scene, drawn: Drawn, side: Side, at: number, middle: number): void {
  const { theme, tokens, look, measure } = scene, { filter } = drawn, lit = filter?.side === side && filter.at === at, y = middle + 4, to_left = side === "query";
  const colour = lit ? theme.accent : at === look[side] ? theme.ink : theme.ink_2, weight = lit || at === look[side] ? 700 : 400, ink = { mono: true, colour, weight };
  const word = ellipsis(tokens[at]!, columns.name - 10, font(theme, ink), measure), x = to_left ? columns.left - 6 : columns.right + 6;
  pen.text(word, x, y, { ...ink, align: to_left ? "right" : "left" });
  pen.text(String(at), to_left ? columns.left - columns.name - 4 : columns.right + columns.name + 4, y, { align: to_left ? "right" : "left", colour: lit ? theme.accent : theme.ink_3 });
  draw_bar(pen, columns, side, y, (drawn.shares[side].get(at) ?? 0) / (to_left ? 1 : highest(drawn, columns)));
  const pin = scene.options.pin as Pin | null;
  if (pin && pin.side === side && pin.at === at) pen.stroke((to_left ? columns.left - columns.name : columns.right) + 0.5, y - 13.5, columns.name - 1, 18, theme.accent, 2, 3);
}

function draw_bar(pen: Pen, columns: Columns, side: Side, y: number, share: number): void {
  const length = Math.min(1, share) * columns.bar, left = side === "query";
  pen.fill(left ? 0 : columns.width - columns.bar, y - 9, columns.bar, 10, pen.theme.sunk, 2);
  if (length >= 0.5) pen.fill(left ? columns.bar - length : columns.width - columns.bar, y - 9, length, 10, pen.theme.ink_3, 2);
}

/** Keys outside the window, where lines end: the strongest by name, the others together. */
function draw_outside(pen: Pen, columns: Columns, scene: Scene, drawn: Drawn): void {
  const { theme, tokens, measure } = scene, { gates, filter } = drawn, x = columns.right + 6, lines = drawn.all.flatMap((one) => one.outside);
  for (const early of [true, false]) {
    if (!(early ? columns.before : columns.after)) continue;
    const edge = (early ? columns.top : columns.bottom) - 0.5, own = early ? gates.before : gates.after, there = lines.filter(([, key]) => key < columns.key === early);
    pen.line(columns.right, edge, columns.width, edge, theme.rule_2, 1, [3, 3]);
    for (const key of own) draw_token(pen, columns, scene, drawn, "key", key, outer_y(columns, gates, key));
    const others = [...there].filter(([, key]) => !own.includes(key)).sort((a, b) => b[2] - a[2]).map(([, key]) => key), count = new Set(others).size, y = outer_y(columns, gates, early ? -1 : Infinity) + 4;
    if (!count) { pen.text(`no ${own.length ? "other " : ""}${early ? "earlier" : "later"} key`, x, y, { colour: theme.ink_3 }); continue; }
    const strongest = `${quoted(tokens[others[0]!]!, 8)} ${String(others[0])}${count > 1 ? ` + ${whole(count - 1)}` : ""}`, words = filter || count === 1 ? strongest : `${whole(count)} others`;
    const together = other_share(drawn, columns, early);
    pen.text(ellipsis(words, columns.width - x - columns.bar - 4, font(theme), measure), x, y, { colour: theme.ink_2 });
    if (together) draw_bar(pen, columns, "key", y, together / highest(drawn, columns));
  }
}

/** Of a line: the weakest still has 2:1 against the paper of either theme, which a projector shows; width tells weights apart. */
export const opacity = (p: number): number => 0.5 + 0.5 * p;

function draw_lines(pen: Pen, columns: Columns, scene: Scene, { all, heads, gates }: Drawn, i: number): void {
  const { ctx } = pen, of = heads.length, shift = of > 1 ? Math.max(-7, Math.min(7, (i - (of - 1) / 2) * 2.5)) : 0;
  for (const [query, key, p] of all_lines(all[i]!)) {
    ctx.globalAlpha = opacity(p);
    pen.line(columns.left + 2, y_of(columns, "query", query) + shift, columns.right - 2, key_y(columns, gates, key) + shift, colour_of(scene, i), 0.75 + 4.5 * p, dash_of(i));
  }
  ctx.globalAlpha = 1;
}

/** The head's letter on its strongest line, near the token that is not chosen; letters step aside for one another. */
function draw_letters(pen: Pen, columns: Columns, scene: Scene, { all, filter, gates }: Drawn, i: number): void {
  const best = all_lines(all[i]!).reduce<Line | null>((most, one) => (!most || one[2] > most[2] ? one : most), null);
  if (!best || best[2] < 0.08) return;
  const [query, key] = best, along = filter!.side === "query" ? 1 : -1, share = 0.5 + along * (0.4 - 0.05 * (i % 8));
  const x = columns.left + share * (columns.right - columns.left), y = y_of(columns, "query", query) + share * (key_y(columns, gates, key) - y_of(columns, "query", query));
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

/** What the foot says, beside the filter: counts of lines and rows; `own`: the selected query keeps the lines that others lose. */
interface Notes { filter: Pin | null; heads: number; from: number; left_out: number; own: boolean; outside: number; absent: number; broken: number }

/** What the numbers of the heads, the lines and the bars are. */
export function sentences({ look, detail_words }: Pick<Scene, "look" | "detail_words">, { filter, heads, from, left_out, own, outside, absent, broken }: Notes): string[] {
  const side = filter?.side, mean = heads > 1 ? ", mean of the heads" : "";
  const beside = side === "key" ? `Beside each head: what the window's queries from ${filter!.at} on give to key ${filter!.at}, their mean.` : `Beside each head: its weight from query ${look.query} on key ${look.key}.`;
  const lines = [`Lines: weights of the shown queries from ${from} on${own ? ` (of query ${look.query} from ${faintest(filter)} on)` : ""}, by width.`, left_out ? `${whole(left_out)} from ${faintest(filter)} on are left out; point at a token for its own.` : "",
                 outside ? `${whole(outside)} ${outside > 1 ? "end" : "ends"} outside the window, beyond the dashed rule.` : ""];
  const left = side === "key" ? `what a query gives to key ${filter!.at}` : side === "query" ? `what query ${filter!.at} gives through its lines` : "what a query gives through its lines";
  const right = side === "query" ? "to which key (a row of several: together)" : `what ${side === "key" ? "it" : "a key"} gets through its lines, mean of the shown queries that can see it`;
  const bars = `Bars, in shares of attention${mean}: left, ${left}; right, ${right}.`;
  const wrong = [absent ? `${whole(absent)} rows are not here yet: look at their heads${detail_words ? ` (${detail_words})` : ""}.` : "", broken ? `${whole(broken)} weights are not finite.` : ""];
  return [heads ? beside : "", [...lines, ...wrong].filter(Boolean).join(" "), bars].filter(Boolean);
}

const foot_lines = (scene: Scene, width: number, notes: Notes): string[] => sentences(scene, notes).flatMap((one) => wrap(one, width - 12, font(scene.theme), scene.measure));

/** More than can ever be said at once: room for it does not depend on the mouse. */
const longest_notes = ({ place, tokens }: Scene): Notes =>
  ({ filter: null, heads: 2, from: faintest(null), left_out: 9999, own: true, outside: place.window < tokens.length ? 9999 : 0, absent: 0, broken: 0 });

function draw_foot(pen: Pen, columns: Columns, scene: Scene, { filter, heads, all, from, left_out }: Drawn): void {
  const { theme } = scene, y = columns.bottom + (columns.after ? outer_rows * pitch : 0) + axis + 14, count = (of: (one: Found) => number) => all.reduce((sum, one) => sum + of(one), 0);
  const notes = { filter, heads: heads.length, from, left_out, own: left_out > 0 && within(columns, "query", scene.look.query), outside: count((one) => one.outside.length), absent: count((one) => one.absent), broken: count((one) => one.broken) };
  const lost = filter?.side === "query" && !within(columns, "query", filter.at) ? [`Query ${filter.at} stands outside the window.`] : [];
  const room = Math.floor((columns.height - y) / line_height) + 1;
  [...lost, ...foot_lines(scene, columns.width, notes)].slice(0, room).forEach((line, i) => pen.text(line, 0, y + line_height * i, { colour: i ? theme.ink_3 : theme.ink_2 }));
}

function hit(columns: Columns, x: number, y: number, scene: Scene): Hit | null {
  const { options } = scene, heads = heads_of(scene), chip = columns.chips.findIndex((one) => x >= one.x && x < one.x + columns.chip - 8 && y >= one.y && y < one.y + chip_height);
  if (chip >= 0 && heads[chip]) return { at: { layer: heads[chip][0], head: heads[chip][1] }, spot: { chip }, options: { pinned: toggled(options.pinned, heads[chip]) } };
  const row = Math.floor((y - columns.top) / pitch), inside = row >= 0 && row < columns.n, side: Side | null = x < columns.left ? "query" : x > columns.right ? "key" : null;
  const at = !side ? null : inside ? columns[side] + row : side === "key" ? outer_key(columns, gates_now(scene, columns), y) : null;
  if (!side || at == null) return null;
  const pin = options.pin as Pin | null, same = pin?.side === side && pin.at === at;
  return { at: side === "query" ? { query: at } : { key: at }, spot: { side }, options: { pin: same ? null : { side, at } } };
}

/** The key outside the window whose row is at a height. */
const outer_key = (columns: Columns, gates: Gates, y: number): number | null =>
  [...gates.before, ...gates.after].find((key) => Math.abs(outer_y(columns, gates, key) - y) <= pitch / 2) ?? null;

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
  kind: "attention", name: "lines", half: true, tall: ({ place, tokens }) => 160 + pitch * Math.min(place.window + outer_rows, tokens.length),
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
    const all = found_of(scene, { ...scene.corner, n: scene.place.window }, filter), outside = all.reduce((sum, one) => sum + one.outside.length, 0);
    return `${what}: ${words}.${outside ? ` Lines to keys outside the window: ${whole(outside)}.` : ""}`;
  },
};

export const panels: Panel[] = [lines];
