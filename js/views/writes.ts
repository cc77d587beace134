// The residual stream at the chosen position: what each part wrote, and what that adds to a logit.
import { font, Pen } from "../paint.ts";
import type { Control, Hit, Options, Panel, Patch, Sized } from "../panel.ts";
import type { View } from "../payload.ts";
import type { Scene } from "../scene.ts";
import { detail_to_show } from "../stale.ts";
import { ellipsis, fixed, quoted, signed_fixed, wrap } from "../text.ts";

interface Columns { name: number; bar: number; zero: number; reach: number; value: number; norm: number; cosine: number; raises: number; lowers: number; token: number }
interface Ledger extends Sized { rows: number[]; others: number[]; top: number; columns: Columns; foot: number; legend: string[]; hint: number }

const pitch = 22, most = 10, head_height = 36;

const cell = (value: number): string => (Number.isNaN(value) ? "–" : fixed(value, 2));

/** The place of a choice: the true next token, or the model's n-th; null where there is none. */
export function choice_of(detail: View, wish: string): number | null {
  const truth = detail.arrays.truth!.values[0]!, count = detail.arrays.choices!.values.length;
  if (wish === "truth") return truth < 0 ? null : truth;
  return Number(wish) < count ? Number(wish) : null;
}

/** Whether nothing follows the position: then what is asked for is the model's own answer. */
const at_end = (detail: View | null): boolean => detail !== null && detail.arrays.truth!.values[0]! < 0;

const own_words = (detail: View, { target }: Options): string => (at_end(detail) && (target ?? "truth") === "truth" ? ", the model's own answer," : "");

const word_of = (detail: View, choice: number): string => detail.labels.word![detail.arrays.choices!.values[choice]!]!;

export interface Split { adds: number[]; total: number; target: string; against: string }

/** What each row adds to the target's logit, or to its lead over the distractor, and the recorded value. */
export function split(detail: View, options: { target?: string; against?: string }): Split {
  const { adds, adds_to_mean, logits, mean_logit } = detail.arrays, n = detail.labels.row!.length;
  const target = choice_of(detail, options.target ?? "truth") ?? 0, wish = options.against ?? "none";
  const against = wish === "none" || wish === "mean" ? null : choice_of(detail, wish);
  const taken = (row: number) => (wish === "mean" ? adds_to_mean!.values[row]! : against === null ? 0 : adds!.values[against * n + row]!);
  const base = wish === "mean" ? mean_logit!.values[0]! : against === null ? 0 : logits!.values[against]!;
  return { adds: Array.from({ length: n }, (_, row) => adds!.values[target * n + row]! - taken(row)), total: logits!.values[target]! - base,
           target: quoted(word_of(detail, target)), against: wish === "mean" ? "the mean of all tokens" : against === null ? "" : quoted(word_of(detail, against)) };
}

/** The rows of a list: sublayers, or their parts where they have some; the largest ten in the order of writing, and the others. */
export function listed(detail: View, adds: number[], options: { by?: string; all?: boolean }): { rows: number[]; others: number[] } {
  const parent = Array.from(detail.arrays.parent!.values), split_up = new Set(parent), rows: number[] = [];
  parent.forEach((of, row) => {
    if (of >= 0) return;
    if (options.by !== "parts" || !split_up.has(row)) rows.push(row);
    else parent.forEach((one, part) => { if (one === row) rows.push(part); });
  });
  if (options.all || rows.length <= most + 1) return { rows, others: [] };
  const largest = new Set([...rows].sort((a, b) => Math.abs(adds[b]!) - Math.abs(adds[a]!)).slice(0, most));
  return { rows: rows.filter((row) => largest.has(row)), others: rows.filter((row) => !largest.has(row)) };
}

/** The tokens that a row raises or lowers most, beyond the mean of the vocabulary; in a small one they may be fewer. */
export function top_of(detail: View, side: "promoted" | "suppressed", row: number): [string, number][] {
  const places = detail.arrays[side]!, by = detail.arrays[`${side}_by`]!.values, k = places.shape[1]!;
  const all = Array.from({ length: k }, (_, i): [string, number] => [detail.labels.word![places.values[row * k + i]!]!, by[row * k + i]!]);
  return all.filter(([, value]) => (side === "promoted" ? value > 0 : value < 0));
}

function layout(scene: Scene, width: number): Ledger {
  const { shown } = detail_to_show(scene), { measure, theme } = scene;
  const { rows, others } = shown ? listed(shown, split(shown, scene.options).adds, scene.options) : { rows: [], others: [] };
  const name = Math.min(112, Math.max(72, ...(shown?.labels.row ?? []).map((words) => measure(words, font(theme, { weight: 600 }))))) + 12;
  const wide = width >= 560, numbers = width >= 400 ? 96 : 0, bar = Math.round(wide ? Math.min(200, width * 0.24) : width - name - 64 - numbers);
  const value = name + bar + 60, raises = value + 96 + 20, token = (width - raises - 12) / 2;
  const columns = { name, bar, zero: name + bar / 2, reach: bar / 2 - 2, value, norm: numbers ? value + 48 : 0, cosine: numbers ? value + 96 : 0,
                    raises: wide ? raises : 0, lowers: wide ? raises + token + 12 : 0, token };
  const count = shown ? rows.length + (others.length ? 1 : 0) : most + 1, foot = head_height + count * pitch;
  const words = foot + (width < 640 ? 97 : 80), legend = numbers ? wrap(of_numbers, width, font(theme), measure) : [], hint = words + 17 * legend.length + (legend.length && 6);
  return { width, height: hint + (width < 420 ? 58 : 36), rows, others, top: head_height, columns, foot, legend, hint };
}

const of_numbers = "length: of the vector that the part writes. cosine: its direction against the stream before it, 1 along it, 0 at a right angle, \u22121 against it.";

const values_of = (adds: number[], rows: number[]) => rows.map((row) => Math.abs(adds[row]!)).filter(Number.isFinite);

function draw(ctx: CanvasRenderingContext2D, ledger: Ledger, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme } = scene, { shown, stale } = detail_to_show(scene);
  if (!shown) return pen.text(scene.detail_words, 0, 18, { colour: theme.ink_3 });
  if (stale) ctx.globalAlpha = 0.55;
  const { adds } = split(shown, scene.options), { columns, rows, others } = ledger;
  const rest = others.reduce((sum, row) => sum + adds[row]!, 0), high = Math.max(1e-9, ...values_of(adds, rows), Math.abs(rest) || 0);
  draw_head(pen, ledger, high);
  rows.forEach((row, i) => draw_row(pen, ledger, scene, shown, row, i, adds[row]!, high));
  if (others.length) {
    const y = ledger.top + rows.length * pitch;
    pen.text(`${others.length} others`, 0, y + 14, { colour: theme.ink_3 });
    draw_bar(pen, columns, y, rest, high);
    pen.text(signed_fixed(rest, 2), columns.value, y + 14, { align: "right", colour: theme.ink_3 });
  }
  pen.line(columns.zero + 0.5, ledger.top - 2, columns.zero + 0.5, ledger.foot + 2, theme.rule_2);
  draw_sum(pen, ledger, scene, shown);
  ledger.legend.forEach((words, i) => pen.text(words, 0, ledger.hint - 6 - 17 * (ledger.legend.length - i), { colour: theme.ink_3 }));
  ctx.globalAlpha = 1;
}

/** The names of the columns, and the range of the bars at both ends. */
function draw_head(pen: Pen, { columns }: Ledger, high: number): void {
  const { theme } = pen, ink = { colour: theme.ink_3 };
  pen.text(signed_fixed(-high, 1), columns.name, 26, ink);
  pen.text("0", columns.zero, 26, { ...ink, align: "center" });
  pen.text(signed_fixed(high, 1), columns.name + columns.bar, 26, { ...ink, align: "right" });
  pen.text("part", 0, 26, ink);
  pen.text("adds to the logit", columns.name, 10, ink);
  if (columns.norm) pen.text("length", columns.norm, 26, { ...ink, align: "right" });
  if (columns.cosine) pen.text("cosine", columns.cosine, 26, { ...ink, align: "right" });
  if (columns.raises) pen.text("raises most", columns.raises, 26, ink);
  if (columns.lowers) pen.text("lowers most", columns.lowers, 26, ink);
}

function draw_row(pen: Pen, { columns, top }: Ledger, { theme, measure, look }: Scene, detail: View, row: number, i: number, value: number, high: number): void {
  const y = top + i * pitch, place = detail.arrays.head!.values, own = place[2 * row] === look.layer && place[2 * row + 1] === look.head;
  const name = { weight: own ? 600 : 400, colour: own ? theme.accent : theme.ink_2 }, number = { align: "right" as const };
  pen.text(ellipsis(detail.labels.row![row]!, columns.name - 8, font(theme, name), measure), 0, y + 14, name);
  draw_bar(pen, columns, y, value, high);
  pen.text(signed_fixed(value, 2), columns.value, y + 14, { ...number, colour: theme.ink });
  if (columns.norm) pen.text(cell(detail.arrays.norm!.values[row]!), columns.norm, y + 14, number);
  if (columns.cosine) pen.text(cell(detail.arrays.cosine!.values[row]!), columns.cosine, y + 14, number);
  if (!columns.raises) return;
  for (const [side, x] of [["promoted", columns.raises], ["suppressed", columns.lowers]] as const) draw_tokens(pen, top_of(detail, side, row), x, y + 14, columns.token, measure);
}

const gap = 13; // between two tokens

/** As many tokens as fit, each whole or with an ellipsis; a hairline between them. */
function draw_tokens(pen: Pen, tokens: [string, number][], x: number, y: number, width: number, measure: Scene["measure"]): void {
  const ink = { mono: true, colour: pen.theme.ink }, end = x + width;
  tokens.forEach(([token], i) => {
    const room = Math.max((end - x) / (tokens.length - i), Math.min(40, end - x)) - gap;
    if (room < 12) return;
    if (i) pen.line(Math.round(x - gap / 2) + 0.5, y - 10, Math.round(x - gap / 2) + 0.5, y + 3, pen.theme.rule_2);
    const word = ellipsis(token, room, font(pen.theme, ink), measure);
    pen.text(word, x, y, ink);
    x += measure(word, font(pen.theme, ink)) + gap;
  });
}

function draw_bar(pen: Pen, { zero, reach }: Columns, y: number, value: number, high: number): void {
  const { theme } = pen;
  if (!Number.isFinite(value)) return pen.strange(value, zero - 8, y + 2, 16);
  const length = Math.max(1, (Math.abs(value) / high) * reach);
  pen.fill(value < 0 ? zero - length : zero, y + 3, length, 14, theme.diverging.css[value < 0 ? 18 : 237]!, 1);
}

function draw_sum(pen: Pen, ledger: Ledger, scene: Scene, detail: View): void {
  const { theme, measure } = scene, { adds, total, against } = split(detail, scene.options), y = ledger.foot + 6.5;
  const sum = [...ledger.rows, ...ledger.others].reduce((all, row) => all + adds[row]!, 0), check = detail.checks[0]!;
  pen.line(0, y, ledger.width, y, theme.rule);
  pen.text("sum", 0, y + 18, { weight: 600, colour: theme.ink });
  pen.text(fixed(sum, 2), ledger.columns.value, y + 18, { align: "right", weight: 600, colour: theme.ink });
  const same = `= ${against ? "difference of logits" : "logit"} ${fixed(total, 2)}`, checked = `${check.passed ? "✓" : "✕"} error ${check.error}`;
  const beside = ledger.width - ledger.columns.value > pen.width(`${same}  ${checked}`) + 16, x = beside ? ledger.columns.value + 12 : 0, line = beside ? y + 18 : y + 36;
  pen.text(same, x, line);
  pen.text(checked, x + pen.width(same) + 10, line, { colour: check.passed ? theme.good : theme.ink, weight: check.passed ? 400 : 600 });
  const words = wrap(largest_words(detail, adds, ledger, total), ledger.width, font(theme), measure);
  words.slice(0, 2).forEach((one, i) => pen.text(one, 0, (beside ? y + 38 : y + 54) + 17 * i));
}

/** Which row moves the logit most, and how much of that is one head's. */
function largest_words(detail: View, adds: number[], { rows, others }: Pick<Ledger, "rows" | "others">, total: number): string {
  const parent = detail.arrays.parent!.values, names = detail.labels.row!, by_size = (a: number, b: number) => Math.abs(adds[b]!) - Math.abs(adds[a]!);
  const first = [...rows, ...others].sort(by_size)[0];
  if (first === undefined) return "";
  const part = Array.from(parent.keys()).filter((row) => parent[row] === first).sort(by_size)[0];
  return `${names[first]} moves it most: ${signed_fixed(adds[first]!, 2)}${part === undefined ? "" : `, ${signed_fixed(adds[part]!, 2)} of it ${names[part]}`}; all together ${fixed(total, 2)}.`;
}

const row_words = (detail: View, row: number): string => {
  const say = (side: "promoted" | "suppressed") => top_of(detail, side, row).map(([token, by]) => `${quoted(token)} ${signed_fixed(by, 2)}`).join(", ") || "nothing";
  const cosine = detail.arrays.cosine!.values[row]!;
  return `${detail.labels.row![row]}: length ${fixed(detail.arrays.norm!.values[row]!, 4)}${Number.isNaN(cosine) ? "" : `, cosine ${fixed(cosine, 4)} with the stream before it`}` +
         ` · raises ${say("promoted")} · lowers ${say("suppressed")}.`;
};

/** The row under the mouse, else the chosen one. */
function row_of(scene: Scene, detail: View): number {
  const under = scene.spot as number | undefined, chosen = detail.labels.row!.indexOf(scene.options.row ?? "");
  return under ?? chosen;
}

function mark(ctx: CanvasRenderingContext2D, ledger: Ledger, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, measure } = scene, { shown, stale } = detail_to_show(scene);
  if (stale) pen.text(scene.detail_words, ledger.columns.raises || ledger.columns.value, 10, { colour: theme.ink_3 });
  if (!shown) return;
  const row = row_of(scene, shown), at = ledger.rows.indexOf(row);
  if (at >= 0) pen.stroke(-0.5, ledger.top + at * pitch + 0.5, ledger.width, pitch - 1, theme.ink_3, 1, 3);
  const words = at >= 0 ? row_words(shown, row) : "Point at a row for its numbers in full and the logits that it moves most.";
  wrap(words, ledger.width, font(theme), measure).slice(0, 3).forEach((one, i) => pen.text(one, 0, ledger.hint + 17 * i, { colour: at >= 0 ? theme.ink : theme.ink_3 }));
}

function hit(ledger: Ledger, _x: number, y: number, scene: Scene): Hit | null {
  const row = ledger.rows[Math.floor((y - ledger.top) / pitch)], detail = scene.detail;
  if (row === undefined || y < ledger.top || !detail) return null;
  const layer = detail.arrays.head!.values[2 * row]!, head = detail.arrays.head!.values[2 * row + 1]!;
  return { at: head < 0 ? {} : { layer, head }, spot: row, options: { row: detail.labels.row![row]! } };
}

function press(key: string, scene: Scene): Patch | null {
  const { look, tokens, detail } = scene, step = { ArrowLeft: -1, ArrowRight: 1 }[key];
  if (step) return { selection: { query: Math.max(0, Math.min(tokens.length - 1, look.query + step)), key: null } };
  if (!detail || !["ArrowUp", "ArrowDown", "Home", "End"].includes(key)) return null;
  const { rows } = listed(detail, split(detail, scene.options).adds, scene.options), now = rows.indexOf(row_of(scene, detail)), last = rows.length - 1;
  const to = { ArrowUp: now < 0 ? last : now - 1, ArrowDown: now + 1, Home: 0, End: last }[key]!;
  return { options: { row: detail.labels.row![rows[Math.max(0, Math.min(last, to))]!]! } };
}

const nth: [string, string][] = ["1st", "2nd", "3rd", "4th", "5th"].map((words, i) => [String(i), `model's ${words}`]);

/** The tokens to choose from. Where nothing follows there is no true next token: it is the model's own answer that is split. */
export function controls(scene: Pick<Scene, "view" | "detail" | "detail_words">): Control[] {
  const end = at_end(detail_to_show(scene).shown);
  return [
    { kind: "choice", name: "target", label: "logit of", choices: [["truth", end ? "model's own answer (nothing follows)" : "true next token"], ...nth] },
    { kind: "choice", name: "against", label: "minus", choices: [["none", "nothing"], ["mean", "mean of all tokens"], ["truth", end ? "true next token (none here)" : "true next token"], ...nth] },
    { kind: "choice", name: "by", label: "by", choices: [["sublayers", "sublayer"], ["parts", "head"]] },
    { kind: "toggle", name: "all", label: "all rows" },
  ];
}

const writes: Panel<Ledger> = {
  kind: "writes", name: "writes", half: true, by_detail: true,
  options: { target: "truth", against: "none", by: "sublayers", all: false },
  slot: () => "below",
  heading(scene) {
    const { shown, stale } = detail_to_show(scene);
    if (!shown || stale) return { title: scene.view.title, subtitle: `at ${scene.look.query}` };
    const { target, against } = split(shown, scene.options), own = own_words(shown, scene.options);
    return { title: scene.view.title, subtitle: `${against ? "to the lead of" : "to the logit of"} ${target}${own}${against ? ` over ${against}` : ""} at ${scene.look.query}` };
  },
  controls, layout, draw, mark, hit, press,
  stale: (scene) => `${scene.look.layer} ${scene.look.head} ${scene.look.query} ${scene.detail ? "" : scene.detail_words}`,
  says(scene) {
    const { shown } = detail_to_show(scene);
    if (!scene.detail || !shown) return `Residual writes at position ${scene.look.query}: ${scene.detail_words}.`;
    const { adds, total, target, against } = split(shown, scene.options), lists = listed(shown, adds, scene.options), row = row_of(scene, shown);
    const said = row >= 0 ? `${signed_fixed(adds[row]!, 4)} from ${row_words(shown, row)}` : largest_words(shown, adds, lists, total);
    return `Position ${scene.look.query}, logit of ${target}${own_words(shown, scene.options)}${against ? ` minus that of ${against}` : ""}: ${fixed(total, 4)}. ${said}`;
  },
};

export const panels: Panel[] = [writes];
