// The arithmetic of one cell, from the numbers that travelled: result = outer((sum of a * b + bias) / divisor), in float64.
import { fixed, in_quotes, precise, smallest } from "../text.ts";
import { Pass, type Tensor } from "./pass.ts";

export type Span = number | [number, number];
export interface Source { name: string; layer: number | null; index: Span[] } // spans: first, end
export interface Made {
  labels: string[]; a: number[]; b?: number[]; bias?: number; divisor?: number; outer?: "√"; steps?: [string, number][]; sources: Source[]; weights?: Source[]; note?: string; largest?: number; // largest: of the numbers added up on the way to a term
}
export interface Receipt extends Required<Pick<Made, "labels" | "a" | "sources">> {
  b: number[] | null; bias: number | null; divisor: number; outer: string; steps: [string, number][]; weights: Source[]; note: string;
  result: number; recorded: number; error: number; passed: boolean; rule: string;
}

/** The receipt of a cell; null where what it needs is not in the page. */
export function receipt(pass: Pass, name: string, layer: number | null, at: number[]): Receipt | null {
  const about = pass.content.tensors[name]!, made = rules[about.rule]!(pass, name, about, layer, at);
  if (!made || made.a.some((one) => one === undefined) || [...made.a, ...(made.b ?? [])].some((one) => Number.isNaN(one) && about.rule !== "loss")) return null;
  const { a, b = null, bias = null, divisor = 1, outer = "" } = made;
  const products = a.map((one, i) => (b ? one * b[i]! : one)), sum = (products.reduce((total, one) => total + one, 0) + (bias ?? 0)) / divisor;
  const result = outer ? Math.sqrt(sum) : sum, recorded = pass.value(name, layer, ...at);
  const error = miss(result, recorded, [made.largest ?? 0, ...[...products, bias ?? 0].map((one) => Math.abs(one / divisor))]);
  return { labels: made.labels, a, b, bias, divisor, outer, steps: made.steps ?? [], sources: made.sources, weights: made.weights ?? [], note: made.note ?? "",
           result, recorded, error, passed: error <= pass.content.bound && !Number.isNaN(recorded), rule: about.rule };
}

/** The difference, as a share of the largest number that went into it. */
function miss(result: number, recorded: number, sizes: number[]): number {
  if (Object.is(result, recorded) || (Number.isNaN(result) && Number.isNaN(recorded))) return 0;
  if (result === recorded) return 0; // infinities
  return Math.abs(result - recorded) / Math.max(...sizes.filter(Number.isFinite), Math.abs(recorded), 1e-30); // below it float32 has no digits left
}

type Rule = (pass: Pass, name: string, about: Tensor, layer: number | null, at: number[]) => Made | null;

const mean = (row: number[]): number => row.reduce((sum, one) => sum + one, 0) / row.length;
const variance = (row: number[]): number => { const m = mean(row); return row.reduce((sum, one) => sum + (one - m) ** 2, 0) / row.length; };
const all = (row: ArrayLike<number>): Span => [0, row.length];

/** What a LayerNorm reads: the last one reads the stream after the last block. */
const stream_layer = (pass: Pass, layer: number | null): number => layer ?? pass.n_layer - 1;

const given: Rule = (pass, _name, _about, _layer, [pos]) => ({ labels: ["id"], a: [pass.content.ids[pos!]!], sources: [] });

const lookup: Rule = (pass, _name, about, _layer, [pos, column]) => {
  const by_id = about.sources.length > 0, row = by_id ? column_of(pass, pass.content.ids[pos!]!) : pos!;
  const label = by_id ? `row ${pass.content.ids[pos!]} of wte` : `row ${pos} of wpe`;
  return { labels: [label], a: [pass.value(about.weight, null, row, column!)], sources: by_id ? [{ name: "ids", layer: null, index: [pos!] }] : [],
           weights: [{ name: about.weight, layer: null, index: [by_id ? pass.content.ids[pos!]! : pos!, column!] }] };
};

/** The place of a token among the columns that travelled; -1 where it did not. */
export function column_of(pass: Pass, id: number): number { return (pass.view.arrays.columns!.values as Int32Array).indexOf(id); }

const sum: Rule = (pass, _name, about, layer, at) => ({
  labels: about.sources, a: about.sources.map((one) => pass.value(one, pass.layered(one) ? layer : null, ...at)),
  sources: about.sources.map((one) => ({ name: one, layer: pass.layered(one) ? layer : null, index: at })),
});

const carry: Rule = (pass, name, about, layer, at) => {
  if (!layer) return sum(pass, name, { ...about, sources: ["embed", "pos_embed"] }, layer, at);
  const before = pass.value("resid_post", layer - 1, ...at);
  return { labels: [`resid_post of L${layer - 1}`], a: [Number.isNaN(before) ? pass.value(name, layer, ...at) : before], sources: [{ name: "resid_post", layer: layer - 1, index: at }] };
};

const scale: Rule = (pass, _name, about, layer, [pos]) => {
  const from = stream_layer(pass, layer), row = pass.row(about.sources[0]!, from, pos!), m = mean(row), n = row.length;
  return { labels: row.map((_, i) => `(x${i} − mean)²/${n}`), a: row.map((x) => x - m), b: row.map((x) => (x - m) / n), bias: pass.content.eps, outer: "√",
           steps: [["mean of the row", m], ["variance of the row", variance(row)]], sources: [{ name: about.sources[0]!, layer: from, index: [pos!, all(row)] }] };
};

const norm: Rule = (pass, _name, about, layer, [pos, column]) => {
  const from = stream_layer(pass, layer), row = pass.row(about.sources[0]!, from, pos!), by = pass.value(about.sources[1]!, layer, pos!);
  const weight = pass.value(about.weight, layer, column!), m = mean(row), x = row[column!]!;
  return { largest: (Math.max(...row.map(Math.abs)) / row.length / by) * Math.abs(weight), labels: ["x / scale", "−mean / scale"], a: [x / by, -m / by], b: [weight, weight], bias: about.bias ? pass.value(about.bias, layer, column!) : undefined,
           steps: [["x", x], ["mean of the row", m], ["scale", by], ["(x − mean) / scale", (x - m) / by], ["weight", weight]],
           sources: [{ name: about.sources[0]!, layer: from, index: [pos!, all(row)] }, { name: about.sources[1]!, layer, index: [pos!] }],
           weights: [about.weight, about.bias].filter(Boolean).map((one) => ({ name: one, layer, index: [column!] })) };
};

const linear: Rule = (pass, _name, about, layer, at) => {
  const column = at.at(-1)!, pos = at.at(-2)!, head = at.length === 3 ? at[0]! : null, { n_embd, n_head } = pass.content.config, wide = n_embd / n_head;
  const row = about.first_row * n_embd + (head === null ? 0 : head * wide) + column, source = about.sources[0]!;
  const a = source === "z" ? Array.from({ length: n_head }, (_, h) => pass.row("z", layer, h, pos)).flat() : pass.row(source, layer, pos);
  const labels = source === "z" ? a.map((_, i) => `H${Math.floor(i / wide)} ${i % wide}`) : a.map((_, i) => `${source} ${i}`), b = pass.row(about.weight, layer, row);
  if (!b.length || !a.length) return null;
  const index: Span[] = source === "z" ? [[0, n_head], pos, [0, wide]] : [pos, all(a)];
  const heads: [string, number][] = source === "z" ? Array.from({ length: n_head }, (_, h) => [`head ${h} adds`, a.slice(h * wide, (h + 1) * wide).reduce((s, one, i) => s + one * b[h * wide + i]!, 0)]) : [];
  return { labels, a, b, bias: about.bias ? pass.value(about.bias, layer, row) : undefined, steps: heads, sources: [{ name: source, layer, index }],
           weights: [{ name: about.weight, layer, index: [row, all(b)] }, ...(about.bias ? [{ name: about.bias, layer, index: [row] }] : [])] };
};

const dot: Rule = (pass, _name, _about, layer, [head, query, key]) => {
  const q = pass.row("q", layer, head!, query!), k = pass.row("k", layer, head!, key!), root = Math.sqrt(q.length);
  if (!q.length) return null;
  return { labels: q.map((_, i) => `q·k ${i}`), a: q, b: k, divisor: root, steps: [["q · k", q.reduce((s, one, i) => s + one * k[i]!, 0)], ["√d_head", root]],
           sources: [{ name: "q", layer, index: [head!, query!, all(q)] }, { name: "k", layer, index: [head!, key!, all(k)] }],
           note: key! > query! ? "The key is later than the query: the mask will hide this score." : "" };
};

const mask: Rule = (pass, _name, _about, layer, at) => ({
  labels: ["raw_scores", "mask"], a: [pass.value("raw_scores", layer, ...at), at[2]! > at[1]! ? -Infinity : 0], sources: [{ name: "raw_scores", layer, index: at }],
});

/** Over the keys that a query may see; over the vocabulary the sum travels, for its columns may not. */
const softmax: Rule = (pass, name, about, layer, at) => {
  const source = about.sources[0]!, column = at.at(-1)!, row = pass.row(source, layer, ...at.slice(0, -1)), keys = name === "pattern", count = keys ? at[1]! + 1 : row.length;
  if (!row.length) return null;
  const seen = row.slice(0, count), largest = keys ? Math.max(...seen) : pass.value("logit_max", null, at[0]!);
  const total = keys ? seen.reduce((s, one) => s + Math.exp(one - largest), 0) : pass.value("exp_sum", null, at[0]!);
  const word = keys ? "score" : "logit", later = column >= count;
  return { labels: [`exp(${word} − largest)`], a: [later ? 0 : Math.exp(row[column]! - largest)], divisor: total,
           steps: [[word, row[column]!], [`largest ${word}`, largest], [`exp(${word} − largest)`, later ? 0 : Math.exp(row[column]! - largest)], [`sum of exp over ${keys ? count : pass.content.config.vocab_size}`, total]],
           sources: [{ name: source, layer, index: [...at.slice(0, -1), [0, count]] }], note: later ? "The key is later than the query: its score is −∞, so its share is 0." : "" };
};

const mix: Rule = (pass, _name, _about, layer, [head, query, column]) => {
  const pattern = pass.row("pattern", layer, head!, query!).slice(0, query! + 1), v = pattern.map((_, key) => pass.value("v", layer, head!, key, column!));
  if (!pattern.length) return null;
  return { labels: pattern.map((_, key) => `key ${key} ${in_quotes(pass.tokens[key]!)}`), a: pattern, b: v,
           sources: [{ name: "pattern", layer, index: [head!, query!, [0, query! + 1]] }, { name: "v", layer, index: [head!, [0, query! + 1], column!] }] };
};

const gelu: Rule = (pass, _name, _about, layer, at) => {
  const x = pass.value("mlp_pre", layer, ...at), exact = pass.content.config.activation === "gelu";
  const gate = exact ? erf(x / Math.SQRT2) : Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)), word = exact ? "erf(x/√2)" : "tanh(√(2/π)(x + 0.044715x³))";
  return { labels: ["x/2 × 1", `x/2 × ${word}`], a: [x / 2, x / 2], b: [1, gate], steps: [["x", x], [word, gate], ["share that passes", (1 + gate) / 2]], sources: [{ name: "mlp_pre", layer, index: at }] };
};

/** The error function to about 1e-15: the series near 0, the continued fraction far from it. */
export function erf(x: number): number {
  const size = Math.abs(x);
  if (size > 6) return Math.sign(x);
  if (size < 2.5) {
    let term = x, total = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(total) && n < 100; n++) { term *= -x * x / n; total += term / (2 * n + 1); }
    return (2 / Math.sqrt(Math.PI)) * total;
  }
  let tail = 0;
  for (let n = 60; n > 0; n--) tail = (n / 2) / (size + tail);
  return Math.sign(x) * (1 - Math.exp(-size * size) / Math.sqrt(Math.PI) / (size + tail));
}

const loss: Rule = (pass, _name, _about, _layer, [pos]) => {
  if (!pos) return { labels: ["none"], a: [NaN], sources: [], note: "Nothing comes before the first token, so nothing predicts it." };
  const id = pass.content.ids[pos]!, logit = pass.value("logits", null, pos - 1, column_of(pass, id)), largest = pass.value("logit_max", null, pos - 1), total = pass.value("exp_sum", null, pos - 1);
  return { labels: ["largest logit", "log of the sum", "−logit"], a: [largest, Math.log(total), -logit],
           steps: [["largest logit", largest], ["sum of exp(logit − largest)", total], [`logit of ${in_quotes(pass.tokens[pos]!)}`, logit], ["its probability", Math.exp(logit - largest) / total]],
           sources: [{ name: "logits", layer: null, index: [pos - 1, [0, pass.columns.length]] }, { name: "ids", layer: null, index: [pos] }] };
};

const lens: Rule = (pass, _name, _about, layer, [pos, column]) => {
  const row = pass.row("resid_post", layer, pos!), weight = pass.row("ln_f.weight", null), bias = pass.row("ln_f.bias", null), head = pass.row("lm_head.weight", null, column!);
  if (!row.length || !head.length) return null;
  const m = mean(row), by = Math.sqrt(variance(row) + pass.content.eps);
  return { labels: row.map((_, i) => `normalised ${i}`), a: row.map((x, i) => ((x - m) / by) * weight[i]! + (bias[i] ?? 0)), b: head,
           steps: [["mean of the row", m], ["scale", by]], sources: [{ name: "resid_post", layer, index: [pos!, all(row)] }],
           weights: [{ name: "lm_head.weight", layer: null, index: [column!, all(head)] }] };
};

const rules: Record<string, Rule> = { given, lookup, sum, carry, scale, norm, linear, dot, mask, softmax, mix, gelu, loss, lens };

/** A number that may be a count: integers as integers. */
export const counted = (value: number): string => (Number.isInteger(value) ? String(value).replace("-", "−") : shown(value));

/** A number of a receipt: 4 decimals, small ones with an exponent, a true minus. */
export function shown(value: number): string {
  if (value === Infinity) return "∞";
  return Math.abs(value) < smallest && value !== 0 ? precise(value) : fixed(value, 4);
}
