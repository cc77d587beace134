// Which query-to-key lines are drawn: of which heads, to which keys, from which weight on; and what they come to at each token.
import type { Pattern } from "./pattern.ts";
import type { Scene } from "./scene.ts";

export type Side = "query" | "key";
export interface Pin { side: Side; at: number }
export type Place = [layer: number, head: number];
export type Line = [query: number, key: number, weight: number];
export interface Window { query: number; key: number; n: number }
/** The lines of a head to keys of the window and to keys outside it; `queries` are those of the window whose rows are here. */
export interface Found { lines: Line[]; outside: Line[]; queries: number[]; absent: number; broken: number }
/** Keys outside the window that have a row of their own, by their place. */
export interface Gates { before: number[]; after: number[] }

const of_one_token = 0.002, of_all = 0.02, when_many = 0.08, many = 60;
export const own_rows = 2; // of the keys before the window, and of those after it

/** Weights below this are not drawn, and the caption says so: of one token nearly all, of a whole window the larger ones. */
export const faintest = (filter: Pin | null): number => (filter ? of_one_token : of_all);

/** The heads whose lines are drawn. */
export function heads_of({ look, pattern, options }: Pick<Scene, "look" | "pattern" | "options">): Place[] {
  if (options.heads === "layer") return Array.from({ length: pattern!.n_head }, (_, head): Place => [look.layer, head]);
  if (options.heads === "pinned") return (options.pinned as Place[]).filter(([layer, head]) => layer < pattern!.n_layer && head < pattern!.n_head);
  return [[look.layer, look.head]];
}

/** Which lines: those of the token under the mouse, else of the pinned one, else all of the window. */
export function filter_of({ hover, options, tokens, spot, look }: Pick<Scene, "hover" | "options" | "tokens" | "spot" | "look">): Pin | null {
  const side = (spot as { side?: Side } | undefined)?.side;
  if (side) return { side, at: look[side] };
  if (hover.query != null) return { side: "query", at: look.query };
  if (hover.key != null) return { side: "key", at: look.key };
  const pin = options.pin as Pin | null;
  return pin && pin.at < tokens.length ? pin : null;
}

interface Row { keys: [key: number, weight: number][]; broken: number }
const kept = 2000, rows = new WeakMap<Pattern, Map<string, Row>>(); // a mouse that crosses a long text reads the same rows again and again

/** The keys of a row that may have a line. */
function row_of(pattern: Pattern, layer: number, head: number, query: number): Row {
  const here = rows.get(pattern) ?? new Map<string, Row>(), name = `${layer} ${head} ${query}`, known = here.get(name);
  if (known) return known;
  const row: Row = { keys: [], broken: 0 };
  for (let key = 0; key <= query; key++) {
    const p = pattern.weight(layer, head, query, key);
    if (!Number.isFinite(p)) row.broken++;
    else if (p >= of_one_token) row.keys.push([key, p]);
  }
  if (here.size >= kept) here.clear();
  rows.set(pattern, here.set(name, row));
  return row;
}

const inside = ({ key, n }: Window, at: number): boolean => at >= key && at < key + n;

/** The lines of a head that pass the filter, and how many rows are not here. */
export function lines_of({ pattern }: Pick<Scene, "pattern">, [layer, head]: Place, filter: Pin | null, window: Window): Found {
  const found: Found = { lines: [], outside: [], queries: [], absent: 0, broken: 0 }, last = Math.min(pattern!.n_tokens, window.query + window.n);
  for (let query = window.query; query < last; query++) {
    if (filter?.side === "query" ? query !== filter.at : filter && filter.at > query) continue;
    if (!pattern!.has(layer, head, query)) { found.absent++; continue; }
    const row = row_of(pattern!, layer, head, query);
    found.queries.push(query);
    found.broken += row.broken;
    for (const [key, p] of row.keys)
      if (p >= faintest(filter) && (filter?.side !== "key" || key === filter.at)) (inside(window, key) ? found.lines : found.outside).push([query, key, p]);
  }
  return found;
}

/** Of more lines than the eye can follow the stronger ones, and all of the selected query; from which weight on, and how many are left out. */
export function thinned(all: Found[], filter: Pin | null, selected: number): { all: Found[]; from: number; left_out: number } {
  const count = (those: Found[]) => those.reduce((sum, { lines, outside }) => sum + lines.length + outside.length, 0), before = count(all);
  if (filter || before <= many) return { all, from: faintest(filter), left_out: 0 };
  const strong = ([query, , p]: Line) => p >= when_many || query === selected, kept = all.map((one) => ({ ...one, lines: one.lines.filter(strong), outside: one.outside.filter(strong) }));
  return { all: kept, from: when_many, left_out: before - count(kept) };
}

/** The strongest keys outside the window, over the lines of all heads and queries: not of the token under the mouse, or they would change beneath it. */
export function gates_of(all: Found[], window: Window): Gates {
  const sums = new Map<number, number>();
  for (const [, key, p] of all.flatMap((one) => one.outside)) sums.set(key, (sums.get(key) ?? 0) + p);
  const strongest = (side: (key: number) => boolean) =>
    [...sums].filter(([key]) => side(key)).sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, own_rows).map(([key]) => key).sort((a, b) => a - b);
  return { before: strongest((key) => key < window.key), after: strongest((key) => key >= window.key) };
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

/** What the lines carry, the mean over the heads: of a query its sum; of a key the mean over the shown queries that can see it. */
export function token_shares(all: Found[]): Record<Side, Map<number, number>> {
  const shares = { query: new Map<number, number>(), key: new Map<number, number>() };
  const add = (side: Side, at: number, p: number) => shares[side].set(at, (shares[side].get(at) ?? 0) + p / all.length);
  for (const { lines, outside, queries } of all)
    for (const [query, key, p] of [...lines, ...outside]) {
      add("query", query, p);
      add("key", key, p / queries.filter((one) => one >= key).length);
    }
  return shares;
}
