// The row of the chosen cell, a few cells wide, with the steps between what was read and what was made.
import { make } from "../chrome.ts";
import { font } from "../paint.ts";
import { in_quotes, type Measure } from "../text.ts";
import type { Theme } from "../theme.ts";
import { deviation, mean, norm_of } from "./finding.ts";
import { colours_of } from "./layout.ts";
import type { Pass } from "./pass.ts";
import { counted, receipt, shown, type Receipt } from "./receipt.ts";
import { index_of, type Walk } from "./walk.ts";

export interface Row { words: string; values: number[]; end?: string; like: string; hidden?: boolean; whole?: boolean } // like: the tensor whose colours it has; hidden: later keys are masked; whole: of integers
type Cellwise = (column: number) => Receipt | null;

const most_parts = 4;

/** The rows of a close-up over some columns: the steps of its rule, the result last. */
export function close_up_rows(walk: Walk, columns: number[]): Row[] {
  const { pass, focus } = walk, layer = walk.layer_of(focus), at = walk.at.slice(0, -1), rule = pass.content.tensors[focus]!.rule;
  const paid: Cellwise = (column) => receipt(pass, focus, layer, [...at, column]), own = columns.map((column) => pass.value(focus, layer, ...at, column)), chosen = paid(walk.at.at(-1)!);
  const steps = chosen ? (steps_of[rule]?.(walk, columns, columns.map(paid).map((one) => one ?? chosen), chosen) ?? []) : [];
  const end = focus === "pattern" || (focus === "probs" && pass.content.columns_all) ? `sum ${shown(pass.row(focus, layer, ...at).reduce((a, b) => a + b, 0))}` : "";
  return [...steps, { words: steps.length && rule === "softmax" ? "÷ sum" : focus, values: own, end: end || end_of(walk, rule), like: focus, hidden: focus === "pattern" }];
}

/** What is said of the whole row at its end: the norm of a vector of the stream, mean and deviation of a normalised one. */
function end_of(walk: Walk, rule: string): string {
  const { pass, focus } = walk, row = pass.row(focus, walk.layer_of(focus), ...walk.at.slice(0, -1));
  if (rule === "norm") return mean_and_deviation(row);
  return row.length && pass.axes(focus).at(-1) === "d_model" ? `norm ${shown(norm_of(row))}` : "";
}

const mean_and_deviation = (row: number[]): string => `mean ${shown(Number(mean(row).toFixed(6)) || 0)}\ndeviation ${shown(deviation(row))}`;

type Steps = (walk: Walk, columns: number[], paid: Receipt[], chosen: Receipt) => Row[];

const softmax: Steps = ({ focus }, _columns, paid, { steps }) => {
  const from = focus === "pattern" ? "scores" : "logits", largest = steps[1]![1];
  return [{ words: from, values: paid.map((one) => one.steps[0]![1]), end: `max ${shown(largest)}`, like: from },
          { words: "exp(s − max)", values: paid.map((one) => one.a[0]!), end: `sum ${shown(steps[3]![1])}`, like: "pattern", hidden: focus === "pattern" }];
};

const norm: Steps = (walk, _columns, paid, { steps }) => {
  const { focus, pass, place } = walk, step = (one: Receipt, i: number) => one.steps[i]![1], from = pass.content.tensors[focus]!.sources[0]!;
  const row = pass.row(from, walk.layer_of(from), place.pos), centred = row.map((x) => x - steps[1]![1]), by = steps[2]![1];
  return [{ words: `x: ${from}`, values: paid.map((one) => step(one, 0)), end: mean_and_deviation(row), like: from },
          { words: "x − mean", values: paid.map((one) => step(one, 0) - step(one, 1)), end: mean_and_deviation(centred), like: from },
          { words: `÷ ${shown(by)}`, values: paid.map((one) => step(one, 3)), end: mean_and_deviation(centred.map((x) => x / by)), like: focus },
          { words: "weight", values: paid.map((one) => step(one, 4)), like: "" }, ...(paid[0]!.bias === null ? [] : [{ words: "bias", values: paid.map((one) => one.bias ?? NaN), like: "" }])];
};

/** Each thing that is added: of many the largest at the chosen column, and the rest in one. */
const parts: Steps = ({ focus, pass }, _columns, paid, chosen) => {
  const product = (one: Receipt, i: number) => (one.b ? one.a[i]! * one.b[i]! : one.a[i]!) / one.divisor, n = chosen.a.length;
  const order = Array.from({ length: n }, (_, i) => i).sort((i, j) => Math.abs(product(chosen, j)) - Math.abs(product(chosen, i))), kept = n <= most_parts + 1 ? order.sort((i, j) => i - j) : order.slice(0, most_parts), like = focus === "raw_scores" ? "scores" : focus;
  const rows: Row[] = kept.map((i) => ({ words: `${chosen.labels[i]}`, values: paid.map((one) => product(one, i)), end: chosen.b && n <= most_parts + 1 ? "" : undefined, like }));
  if (kept.length < n) {
    const rest = new Set(kept);
    rows.push({ words: `${n - kept.length} smaller`, values: paid.map((one) => order.reduce((sum, i) => (rest.has(i) ? sum : sum + product(one, i)), 0)), like });
  }
  if (chosen.bias !== null) rows.push({ words: "bias", values: paid.map((one) => (one.bias ?? 0) / one.divisor), like });
  return pass.content.tensors[focus]!.rule === "linear" && pass.content.tensors[focus]!.sources[0] === "z" ? heads(paid, chosen, like) : rows;
};

/** What each head adds to the output of attention. */
function heads(paid: Receipt[], chosen: Receipt, like: string): Row[] {
  const order = chosen.steps.map((_, i) => i).sort((i, j) => Math.abs(chosen.steps[j]![1]) - Math.abs(chosen.steps[i]![1])), kept = order.slice(0, 6).sort((i, j) => i - j), rest = order.slice(6);
  const rows: Row[] = kept.map((i) => ({ words: chosen.steps[i]![0], values: paid.map((one) => one.steps[i]![1]), like }));
  if (rest.length) rows.push({ words: `${rest.length} other heads`, values: paid.map((one) => rest.reduce((sum, i) => sum + one.steps[i]![1], 0)), like });
  if (chosen.bias !== null) rows.push({ words: "bias", values: paid.map((one) => one.bias ?? 0), like });
  return rows;
}

const mask: Steps = (_walk, _columns, paid) => [{ words: "raw_scores", values: paid.map((one) => one.a[0]!), like: "scores" }, { words: "+ mask", values: paid.map((one) => one.a[1]!), like: "scores", whole: true }];

const gelu: Steps = (_walk, _columns, paid) => [{ words: "x: mlp_pre", values: paid.map((one) => one.a[0]! * 2), like: "mlp_pre" },
                                            { words: "share passing", values: paid.map((one) => (1 + one.b![1]!) / 2), like: "pattern" }];

const dot: Steps = (_walk, _columns, paid, chosen) => [{ words: "q · k", values: paid.map((one) => one.steps[0]![1]), end: `÷ ${counted(chosen.divisor)}`, like: "scores" }];

const loss: Steps = ({ pass }, columns) => [{ words: "probability", values: columns.map((pos) => Math.exp(-pass.value("loss", null, pos))), like: "probs" }];

/** The same row after every block, and what stands first there. */
const lens: Steps = ({ pass, place }, columns) => {
  const { lens_top, lens_prob, columns: ids } = pass.view.arrays, n = pass.tokens.length, near = Math.max(0, Math.min(pass.n_layer - 12, place.layer - 6));
  return Array.from({ length: Math.min(12, pass.n_layer) }, (_, i) => near + i).map((layer) => {
    const at = layer * n + place.pos, first = pass.columns[ids!.values.indexOf(lens_top!.values[at]! as never)];
    return { words: `after L${layer}`, values: columns.map((column) => pass.value("lens", layer, place.pos, column)), end: `first: ${in_quotes(first!)} ${lens_prob!.values[at]!.toFixed(2)}`, like: "lens" };
  });
};

const steps_of: Record<string, Steps> = { softmax, norm, sum: parts, carry: parts, linear: parts, mix: parts, mask, gelu, dot, loss, lens };

const most_columns = 16; // that a reader can take in
const names: Record<string, string> = { key: "exp(s − max)", pos: "probability", d_head: "4 smaller", number: "number" }, ends: Record<string, string> = { key: "max −0.0000", pos: "", d_head: "", d_vocab: "first: ‘a’ 0.00", number: "" }; // about the widest words beside a row, by its axis

/** The pixels of a column: the longest number and the padding around it. */
export const column_width = (measure: Measure, theme: Theme): number => Math.ceil(Math.max(44, measure("−0.0000", font(theme)) + 2)) + 2;

/** How many columns fit beside the names of the rows and what is said of a whole row at its end. */
function room_for(width: number, axis: string, measure: Measure, theme: Theme): number {
  const name = measure(names[axis] ?? "x: resid_post", font(theme)), end = measure(ends[axis] ?? "deviation 0.0000", font(theme, { weight: 600 }));
  return Math.max(3, Math.min(most_columns, Math.floor((width - name - 12 - (end && end + 12)) / column_width(measure, theme))));
}

/** Neighbours of a place, as many as fit. */
export function columns_near(n: number, chosen: number, room: number): number[] {
  const wide = Math.min(n, room), first = Math.max(0, Math.min(n - wide, chosen - (wide >> 1)));
  return Array.from({ length: wide }, (_, i) => first + i);
}

/** All columns of a row where they fit, else the chosen one and then the largest, largest first; NaN before any number. */
export function columns_shown(sizes: number[], chosen: number, room: number): number[] {
  const all = sizes.map((_, i) => i), size = (i: number) => (Number.isNaN(sizes[i]!) ? Infinity : sizes[i]!);
  if (all.length <= room) return all;
  return [chosen, ...all.filter((i) => i !== chosen).sort((i, j) => (size(i) === size(j) ? i - j : size(j) - size(i))).slice(0, room - 1)];
}

/** Whether the numbers along an axis count by their size, whatever their sign: those of a vector do, scores and shares do not. */
const by_size = (axis: string): boolean => ["d_model", "d_head", "d_mlp"].includes(axis);

/** The columns of the row that is shown. */
export function columns_of(walk: Walk, width: number, measure: Measure, theme: Theme): number[] {
  const { pass, focus, at } = walk, axis = pass.axes(focus).at(-1)!, layer = walk.layer_of(focus), before = at.slice(0, -1);
  const row = Array.from({ length: pass.shape(focus).at(-1)! }, (_, i) => (pass.absent(focus, i) ? -Infinity : pass.value(focus, layer, ...before, i)));
  return columns_shown(by_size(axis) ? row.map(Math.abs) : row, at.at(-1)!, room_for(width, axis, measure, theme));
}

function words_of(pass: Pass, name: string): string[] | null {
  const axis = pass.axes(name).at(-1)!;
  return axis === "key" || axis === "pos" || axis === "query" ? pass.tokens : axis === "d_vocab" ? pass.columns : null;
}

/** The close-up as a table. */
export function close_up(walk: Walk, columns: number[], theme: Theme, choose: (column: number) => void): HTMLElement[] {
  const { pass, focus } = walk, chosen = walk.at.at(-1)!, words = words_of(pass, focus), axis = pass.axes(focus).at(-1)!, places = columns.length < pass.shape(focus).at(-1)! && words === pass.tokens; // out of their order tokens need their places
  const table = make("table", "gv-table"), head = make("tr"), rows = close_up_rows(walk, columns);
  head.append(make("th", "", words ? "" : axis), ...columns.map((column) => make("th", column === chosen ? "gv-here" : "", words ? `${places ? `${column} ` : ""}${words[column]!}` : String(column))), make("td"));
  table.append(head, ...rows.map((row, i) => table_row(row, walk, theme, columns, i === rows.length - 1, choose)));
  return [table];
}

function table_row(row: Row, { pass, focus, at, place }: Walk, theme: Theme, columns: number[], last: boolean, choose: (column: number) => void): HTMLElement {
  const tr = make("tr", last ? "gv-result" : ""), name = make("th", "", row.words), colours = row.like ? colours_of(pass, row.like, theme) : null, chosen = at.at(-1)!, query = place.pos, ids = pass.content.tensors[focus]!.colour === "id";
  name.scope = "row";
  const cells = row.values.map((value, i) => {
    const td = make("td", columns[i] === chosen ? "gv-here" : ""), absent = pass.absent(focus, columns[i]!), number = make("span", "gv-cell-value", absent ? "–" : (ids || row.whole ? counted : shown)(value)), masked = value === -Infinity || (row.hidden && value === 0 && columns[i]! > query), byte = colours && !masked && Number.isFinite(value) ? colours.at(value) : -1;
    if (byte >= 0) { number.style.background = colours!.scale.css[byte]!; number.style.color = colours!.scale.ink[byte]!; }
    if (masked) number.classList.add("gv-masked");
    td.addEventListener("click", () => choose(columns[i]!));
    td.append(number);
    return td;
  });
  tr.append(name, ...cells, make("td", "gv-end", row.end ?? ""));
  return tr;
}

/** The vocabulary around the chosen token's number, where the numbers themselves are the stage. */
export function vocabulary(walk: Walk, width: number, measure: Measure, theme: Theme): HTMLElement[] {
  const { pass } = walk, ids = pass.view.arrays.columns!.values, place = Math.max(0, ids.indexOf(pass.content.ids[walk.place.pos]! as never)), near = columns_near(pass.columns.length, place, room_for(width, "number", measure, theme));
  const table = make("table", "gv-table"), head = make("tr"), row = make("tr", "gv-result");
  head.append(make("th", "", "token"), ...near.map((i) => make("th", i === place ? "gv-here" : "", pass.columns[i]!)));
  row.append(make("th", "", "number"), ...near.map((i) => { const td = make("td", i === place ? "gv-here" : ""); td.append(make("span", "gv-cell-value", String(ids[i]!))); return td; }));
  table.append(head, row);
  return [table];
}

/** What the table shows, in words. */
export function close_up_title(walk: Walk, columns: number[]): string {
  const { pass, focus } = walk, n = pass.shape(focus).at(-1)!, rest = columns.length - 1;
  return `${row_title(walk)}${rest + 1 < n && focus !== "ids" ? ` · the chosen one, then the ${rest} largest${by_size(pass.axes(focus).at(-1)!) ? " in size" : ""} of ${n}` : ""}`;
}

function row_title(walk: Walk): string {
  const { pass, place, focus } = walk, at = index_of(pass, focus, place), axes = pass.axes(focus), token = (pos: number) => in_quotes(pass.tokens[pos]!);
  if (focus === "ids") return `The vocabulary near ${token(place.pos)}: ${pass.content.config.vocab_size} tokens`;
  if (axes.includes("query")) return `Row ${at[1]}: query ${token(at[1]!)} of head ${place.head}, key by key`;
  return axes.at(-1) === "pos" ? `${focus}, token by token` : `Row ${place.pos}: ${focus} at ${token(place.pos)}, ${axes.at(-1) === "d_vocab" ? "token by token" : `along ${axes.at(-1)}`}`;
}
