// The grid of all heads: one tile each, hover previews, click locks.
import { beats_null, can_sort, chosen_score, none_stands_out, score_of, scores_of, sort_words } from "../head_scores.ts";
import { font, Pen } from "../paint.ts";
import type { Control, Hit, Panel, Patch, Sized } from "../panel.ts";
import type { Scene } from "../scene.ts";
import { has_other, minus_words, names_of, shown_of, shown_pattern } from "../shown.ts";
import { fixed, head_name, precise, quoted, short, signed, wrap } from "../text.ts";
import { is_muted, mute } from "./edits.ts";

interface Grid extends Sized {
  left: number; top: number; tile: number; pitch_x: number; pitch_y: number; n_layer: number; n_head: number;
  n_tokens: number; words: boolean;
  /** What the number below a tile is, in lines below the grid. */
  foot: string[];
  /** Sorted: the place of each head, layer by layer, in rows of `across`; else they stand by layer and head. */
  sorted: { place: number[]; across: number } | null;
}

const foot_line = 17;

const brief: Record<string, string> = { previous_token: "prev", current_token: "self", first_token: "first", duplicate_token: "dup", induction: "induct", distance: "dist", entropy: "entr" };

function layout(scene: Scene, width: number): Grid {
  const { n_layer, n_head, n_tokens } = scene.pattern!;
  const left = 32, top = 24, room = Math.floor((width - left + 6) / n_head);
  const most = scene.place.large ? (n_head <= 6 ? (n_layer <= 4 ? 136 : 96) : scene.place.columns === 1 ? 48 : 72) : n_head <= 4 ? 104 : 88;
  let tile = Math.max(12, Math.min(most, room - (room > 76 ? 16 : room > 56 ? 8 : 6)));
  if (n_tokens < tile && tile % n_tokens && n_tokens * Math.floor(tile / n_tokens) >= 0.6 * tile)
    tile = n_tokens * Math.floor(tile / n_tokens); // cells of whole pixels
  const name = scene.measure(head_name(n_layer - 1, n_head - 1), font(scene.theme));
  const words = tile >= name + scene.measure(".00", font(scene.theme, { weight: 600 })) + 4;
  const said = [scene.options_of("heads").sort ? sort_words(scene) : "", words_below(scene, words)].filter(Boolean);
  const foot = said.flatMap((one) => wrap(one, width - 8, font(scene.theme), scene.measure));
  const shape = { width, left, top, tile, n_layer, n_head, n_tokens, words, foot }, place = ranked(scene);
  if (place) return in_order(shape, place, Math.ceil(name));
  const pitch_x = Math.min(room, tile + (words ? 24 : 8)), pitch_y = tile + (words ? 34 : 8);
  return { ...shape, height: top + n_layer * pitch_y + (words ? 0 : 4) + 8 + foot.length * foot_line, pitch_x, pitch_y, sorted: null };
}

/** Rows of as many heads as fit, each with its name: the axes of layer and head are gone. */
function in_order(shape: Omit<Grid, "height" | "pitch_x" | "pitch_y" | "sorted">, place: number[], name: number): Grid {
  const { width, tile, words } = shape, left = words ? 8 : 4, top = 8;
  const pitch_x = Math.max(tile, name) + (words ? 24 : 10), pitch_y = tile + (words ? 34 : 24), across = Math.max(1, Math.floor((width - left + 6) / pitch_x));
  return { ...shape, left, top, pitch_x, pitch_y, sorted: { place, across }, height: top + Math.ceil(place.length / across) * pitch_y + 8 + shape.foot.length * foot_line };
}

/** What stands below the tiles, or where it is where they have no room for it. */
const words_below = (scene: Scene, room: boolean): string =>
  room ? number_words(scene) : scores_of(scene) ? "No room below the tiles for names and numbers: choose a head, its score stands among the dots." : "";

/** What stands below a tile, in words. */
function number_words(scene: Scene): string {
  const chosen = chosen_score(scene), scores = scores_of(scene), name = scores?.labels.words![scores.labels.score!.indexOf(chosen)];
  const of = has_other(scene.view) ? ` in ${names_of(scene.view)[0]}` : "", tick = "tick: 97.5 % of chance is below";
  if (unlabelled(scene)) return `No head stands out${of}: ${why_none(scene)} Below a head: the largest weight of the chosen query.`;
  if (scores && chosen === "stands_out") return `Below a head: the score that stands out${of}, and its value; ${tick}; mixed: no score of the head stands out.`;
  if (scores && name) return `Below a head: its ${name} score${of}; ${tick}.`;
  if (shown_of(scene) === "difference") return "Below a head: the largest change of the chosen query's weights.";
  return "Below a head: the largest weight of the chosen query.";
}

/** Whether labels were asked for what stands out, and nothing does. */
const unlabelled = (scene: Scene): boolean => chosen_score(scene) === "stands_out" && none_stands_out(scene);

const few = 8; // different tokens: chance alone then often looks where a kind of head looks

/** What it means that no head has a label, and what it does not. */
function why_none({ tokens }: Scene): string {
  const different = new Set(tokens).size;
  const chance = different <= few ? `With ${different === 1 ? "one token" : `${different} different tokens`}, chance alone looks there often. ` : "";
  return "none looks at the token before, itself, the first token, an earlier copy of the token or what followed it, clearly more than by chance. "
    + `${chance}A head that chooses by something else, such as which token it is, has no score here.`;
}

/** The place of every head when the highest score comes first; null where nothing is sorted. */
function ranked(scene: Scene): number[] | null {
  const { n_layer, n_head } = scene.pattern!, n = n_layer * n_head;
  if (!scene.options_of("heads").sort || !scores_of(scene) || chosen_score(scene) === "most" || unlabelled(scene)) return null;
  const value = (at: number) => score_of(scene, at)?.value[at] ?? -Infinity, known = (p: number) => (Number.isNaN(p) ? -Infinity : p);
  const order = Array.from({ length: n }, (_, at) => at).sort((a, b) => known(value(b)) - known(value(a)) || a - b);
  const place = new Array<number>(n);
  order.forEach((at, i) => { place[at] = i; });
  return place;
}

/** Whether the filter keeps a head; the others are grey. */
function kept(scene: Scene, at: number): boolean {
  const { keep = "all" } = scene.options_of("heads"), score = score_of(scene, at);
  if (keep === "all" || chosen_score(scene) === "most" || !scores_of(scene) || unlabelled(scene)) return true;
  if (!score) return false;
  return keep === "null" ? beats_null(score, at) : score.value[at]! >= Number(keep) * score.most;
}

function corner(grid: Grid, layer: number, head: number): [number, number] {
  const { sorted, left, top, pitch_x, pitch_y } = grid, at = sorted ? sorted.place[layer * grid.n_head + head]! : 0;
  const [row, column] = sorted ? [Math.floor(at / sorted.across), at % sorted.across] : [layer, head];
  return [left + column * pitch_x, top + row * pitch_y];
}

function draw(ctx: CanvasRenderingContext2D, grid: Grid, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), dense = grid.pitch_x < 24;
  for (let head = 0; head < grid.n_head && !grid.sorted; head++)
    if (!dense || head % 2 === 0) pen.text(`H${head}`, corner(grid, 0, head)[0] + grid.tile / 2, 14, { align: "center" });
  for (let layer = 0; layer < grid.n_layer; layer++) {
    if (!grid.sorted) pen.text(`L${layer}`, 0, corner(grid, layer, 0)[1] + grid.tile / 2 + 4);
    for (let head = 0; head < grid.n_head; head++) draw_tile(pen, grid, scene, layer, head);
  }
}

function draw_tile(pen: Pen, grid: Grid, scene: Scene, layer: number, head: number): void {
  const { ctx, theme } = pen, [x, y] = corner(grid, layer, head);
  const scale = ctx.getTransform().a, size = Math.round(grid.tile * scale);
  const pixels = Math.min(size, scene.pattern!.n_tokens), shown = pixels < size ? size : pixels;
  const pattern = shown_pattern(scene), bytes = pattern.tile(layer, head, shown), image = new ImageData(shown, shown);
  const colours = new Uint32Array(image.data.buffer), n = grid.n_tokens, { rgba } = pattern.around_zero ? theme.diverging : theme.sequential;
  for (let row = 0; row < shown; row++) {
    const query = Math.floor((row * n) / shown);
    const end = Math.min(shown, Math.ceil(((query + 1) * shown) / n)); // masked cells stay empty
    for (let column = 0; column < end; column++)
      colours[row * shown + column] = rgba[bytes[row * shown + column]!]!;
  }
  ctx.putImageData(image, Math.round(x * scale), Math.round(y * scale));
  pen.line(x - 0.5, y, x - 0.5, y + grid.tile + 1, theme.rule_2);
  pen.line(x - 1, y + grid.tile + 0.5, x + grid.tile, y + grid.tile + 0.5, theme.rule_2);
  if (scene.pattern!.broken(layer, head)) pen.strange(NaN, x + grid.tile - 16, y, 16);
  if (is_muted(scene, layer, head)) pen.path([[x, y], [x + grid.tile, y + grid.tile]], theme.ink, 1.5);
  if (is_muted(scene, layer, head)) pen.path([[x + grid.tile, y], [x, y + grid.tile]], theme.ink, 1.5);
  if (kept(scene, layer * grid.n_head + head)) return;
  ctx.globalAlpha = 0.8;
  pen.fill(x, y, grid.tile + 1, grid.tile, theme.paper);
  ctx.globalAlpha = 1;
}

function mark(ctx: CanvasRenderingContext2D, grid: Grid, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, look, selection, hover } = scene;
  const cell = grid.tile / grid.n_tokens;
  for (let layer = 0; layer < grid.n_layer; layer++)
    for (let head = 0; head < grid.n_head; head++) {
      const [x, y] = corner(grid, layer, head), row = y + (look.query + 0.5) * cell, column = x + (look.key + 0.5) * cell;
      if (!grid.words && grid.sorted) pen.text(head_name(layer, head), x, y + grid.tile + 15, { colour: kept(scene, layer * grid.n_head + head) ? theme.ink_2 : theme.ink_3 });
      if (!grid.words) continue;
      pen.line(x - 5, row, x - 1, row, theme.accent, Math.max(1.5, Math.min(3, cell)));
      pen.line(column, y + grid.tile + 1, column, y + grid.tile + 5, theme.ink, Math.max(1.5, Math.min(3, cell)));
      label(pen, grid, scene, layer, head, x, y + grid.tile + 18);
    }
  grid.foot.forEach((line, i) => pen.text(line, 0, grid.height - 6 - foot_line * (grid.foot.length - 1 - i), { colour: theme.ink_3 }));
  outline(pen, grid, hover.layer != null && hover.head != null ? [hover.layer, hover.head] : null, false);
  outline(pen, grid, selection.layer != null && selection.head != null ? [selection.layer, selection.head] : null, true);
}

/** Below a tile: its score in words with the null as a tick on the bar, or the largest weight of the looked-at query. */
function label(pen: Pen, grid: Grid, scene: Scene, layer: number, head: number, x: number, y: number): void {
  const { theme, look } = scene, at = layer * grid.n_head + head, score = score_of(scene, at), waiting = chosen_score(scene) !== "most" && !scores_of(scene);
  const most = score || (chosen_score(scene) !== "most" && !waiting && !unlabelled(scene)) ? NaN : shown_pattern(scene).peak(layer, head, look.query);
  const value = score ? score.value[at]! : most, full = score?.most ?? 1, bright = kept(scene, at);
  const size = short(Math.abs(value)), number = !Number.isFinite(value) ? "" : score?.unit ? fixed(value, 1) : value < 0 || (!score && shown_pattern(scene).around_zero) ? signed(value, size) : size;
  const lit = layer === look.layer && head === look.head, ink = bright ? theme.ink : theme.ink_3;
  const names = !grid.sorted && chosen_score(scene) === "stands_out" && !waiting && !unlabelled(scene);
  pen.text(names ? (score ? brief[score.name]! : "mixed") : head_name(layer, head), x, y, { colour: lit ? theme.ink : bright ? theme.ink_2 : theme.ink_3, weight: lit ? 600 : 400 });
  pen.text(number, x + grid.tile, y, { align: "right", weight: !score || beats_null(score, at) ? 600 : 400, colour: score && !beats_null(score, at) ? theme.ink_3 : ink });
  pen.fill(x, y + 4, grid.tile, 2, theme.sunk);
  pen.fill(x, y + 4, grid.tile * Math.min(1, Math.abs(value || 0) / full), 2, bright ? theme.ink_2 : theme.rule_2);
  if (score) pen.fill(x + Math.round(grid.tile * Math.min(1, score.high[at]! / full)), y + 2, 1, 6, theme.ink_3);
}

function outline(pen: Pen, grid: Grid, at: [number, number] | null, locked: boolean): void {
  if (!at || at[0] >= grid.n_layer || at[1] >= grid.n_head) return;
  const [x, y] = corner(grid, ...at), far = grid.words ? 7 : 3, foot = grid.words ? 27 : 2;
  const box = [x - far - 0.5, y - far + 0.5, grid.tile + 2 * far, grid.tile + far + foot] as const;
  pen.stroke(...box, locked ? pen.theme.accent : pen.theme.ink, locked ? 2 : 1, 6);
  if (locked && grid.words) pen.padlock(box[0] + box[2], box[1] + 9);
}

function hit(grid: Grid, x: number, y: number): Hit | null {
  let head = Math.floor((x - grid.left + 6) / grid.pitch_x), layer = Math.floor((y - grid.top + 4) / grid.pitch_y);
  if (grid.sorted) {
    const at = head >= 0 && head < grid.sorted.across ? grid.sorted.place.indexOf(layer * grid.sorted.across + head) : -1;
    if (at < 0) return null;
    [layer, head] = [Math.floor(at / grid.n_head), at % grid.n_head];
  }
  const inside = head >= 0 && head < grid.n_head && layer >= 0 && layer < grid.n_layer;
  return inside ? { at: { layer, head } } : null;
}

function press(key: string, scene: Scene): Patch | null {
  if (key === "m") return mute(scene);
  if (key === "s") return sorted(scene);
  const { layer, head } = scene.look, { n_layer, n_head } = scene.pattern!;
  const to: Record<string, [number, number]> = {
    ArrowLeft: [layer, head - 1], ArrowRight: [layer, head + 1], ArrowUp: [layer - 1, head], ArrowDown: [layer + 1, head],
    Home: [0, 0], End: [n_layer - 1, n_head - 1],
  };
  const [to_layer, to_head] = to[key] ?? [-1, -1];
  const inside = to_layer >= 0 && to_layer < n_layer && to_head >= 0 && to_head < n_head;
  return key in to ? { selection: inside ? { layer: to_layer, head: to_head } : {} } : null;
}

/** Sort, or stand by layer and head again; the note says by what, or why nothing is sorted. */
function sorted(scene: Scene): Patch {
  if (scene.options_of("heads").sort) return { options: { sort: false }, note: "The heads stand by layer and head." };
  return { note: sort_words(scene), ...(can_sort(scene) ? { options: { sort: true } } : {}) };
}

function subtitle(scene: Scene): string {
  const shown = shown_of(scene), pattern = shown_pattern(scene);
  if (shown === "difference" && scene.view.content?.unchanged) return `difference: ${minus_words(scene.view)}; no weight of any head differs; what they write may: compare the logits`;
  if (shown === "difference") return `difference: ${minus_words(scene.view)}; blue less, orange more, to ±${precise(pattern.most)}`;
  const of = has_other(scene.view) ? `of ${names_of(scene.view)[shown === "other" ? 1 : 0]}; ` : "", sink = shown === "no_sink" && !scene.pattern!.whole ? "; tiles keep the first token" : "";
  return of + (scene.tokens.length > 96 ? `one tile per head, each pixel the largest of its cells${sink}` : scene.view.subtitle);
}

function controls(scene: Scene): Control[] {
  if (!scene.views.some((view) => view.kind === "head_scores" && view.detail_axes)) return [];
  const all = scores_of(scene), none = chosen_score(scene) === "most" ? "needs a score" : unlabelled(scene) ? "no head stands out" : undefined;
  const names = (all?.labels.score ?? []).map((name, i): [string, string] => [name, all!.labels.words![i]!]);
  return [
    { kind: "choice", name: "score", label: "label", choices: [["stands_out", "what stands out"], ["most", "largest weight"], ...names] },
    { kind: "choice", name: "keep", label: "keep", choices: [["all", "all heads"], ["null", "outside the null"], ["0.25", "from 25 %"], ["0.5", "from 50 %"], ["0.75", "from 75 %"]], disabled: none },
    { kind: "toggle", name: "sort", label: "sort", disabled: none },
  ];
}

const grid: Panel<Grid> = {
  kind: "attention", name: "heads", options: { score: "stands_out", keep: "all", sort: false }, reads: ["head"],
  slot: (scene) => (scene.place.large || scene.place.columns === 2 ? "left" : "centre"),
  heading: (scene) => ({ title: scene.view.title, subtitle: subtitle(scene) }),
  controls, layout, draw, mark, hit, press,
  says(scene) {
    const { look, tokens, selection } = scene, pattern = shown_pattern(scene), key = pattern.strongest(look.layer, look.head, look.query);
    const most = fixed(pattern.peak(look.layer, look.head, look.query), 4), at = look.layer * pattern.n_head + look.head, score = score_of(scene, at);
    const words = score ? ` ${score.words} ${fixed(score.value[at]!, 2)}${score.unit}, by chance up to ${fixed(score.high[at]!, 2)}.` : "";
    const locked = selection.layer === look.layer && selection.head === look.head ? ", locked" : "";
    return `Head ${head_name(look.layer, look.head)}${locked}: from ${quoted(tokens[look.query] ?? "")} most, ${most}, on ${quoted(tokens[key] ?? "")}.${words}`;
  },
};

export const panels: Panel[] = [grid];
