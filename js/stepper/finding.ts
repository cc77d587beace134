// What the chosen row says, in one sentence with its numbers: where a head reads, what LayerNorm did, what comes next.
import { in_quotes } from "../text.ts";
import type { Pass } from "./pass.ts";
import { shown } from "./receipt.ts";
import type { Walk } from "./walk.ts";

export const mean = (row: number[]): number => row.reduce((sum, x) => sum + x, 0) / row.length;
/** The standard deviation with all n in the denominator, as LayerNorm takes it. */
export const deviation = (row: number[]): number => { const m = mean(row); return Math.sqrt(row.reduce((sum, x) => sum + (x - m) ** 2, 0) / row.length); };
/** The Euclidean norm. */
export const norm_of = (row: number[]): number => Math.hypot(...row);

/** The places of the largest numbers, largest first. */
export const largest = (row: number[], n: number): number[] => row.map((_, i) => i).sort((i, j) => row[j]! - row[i]!).slice(0, n);

type Finding = (walk: Walk) => string;

const token = (pass: Pass, pos: number): string => in_quotes(pass.tokens[pos]!);
const own_row = (walk: Walk, name = walk.focus): number[] => walk.pass.row(name, walk.layer_of(name), walk.place.pos);

const pattern: Finding = (walk) => {
  const { pass, place } = walk, row = pass.row("pattern", walk.layer_of("pattern"), place.head, place.pos), [first, second] = largest(row, 2);
  const also = second !== undefined && row[second]! > 0 ? `, then from ${token(pass, second)} at ${second}: ${shown(row[second]!)}` : "";
  return `Head L${place.layer}H${place.head} at ${token(pass, place.pos)} reads most from ${token(pass, first!)} at ${first}: ${shown(row[first!]!)} of 1${also}.`;
};

const scores: Finding = (walk) => {
  const { pass, place } = walk, row = pass.row("scores", walk.layer_of("scores"), place.head, place.pos), [best] = largest(row, 1), seen = row.filter(Number.isFinite).length;
  return `Of the ${seen} ${seen === 1 ? "key" : "keys"} that the query ${token(pass, place.pos)} may see, ${token(pass, best!)} at ${best} has the largest score: ${shown(row[best!]!)}.`;
};

const norm: Finding = (walk) => {
  const { pass, place, now } = walk, name = now.tensors.at(-1)!, from = pass.content.tensors[name]!.sources[0]!, before = own_row(walk, from), after = own_row(walk, name);
  const told = (row: number[]) => `mean ${shown(Number(mean(row).toFixed(6)) || 0)}, deviation ${shown(deviation(row))}`;
  const m = mean(before), by = pass.value(`${name}_scale`, walk.layer_of(name), place.pos), weighted = `weight${pass.content.config.bias ? " and bias" : ""}`;
  return `The row of ${token(pass, place.pos)}: ${told(before)} before; ${told(before.map((x) => (x - m) / by))} after the division by ${shown(by)}; ${told(after)} after ${weighted}.`;
};

const stream: Finding = (walk) => {
  const { pass, place, now } = walk, name = now.tensors.at(-1)!, { sources } = pass.content.tensors[name]!, before = sources[0]!;
  const length = `At ${token(pass, place.pos)} the vector ${name} has the norm ${shown(norm_of(own_row(walk, name)))}`;
  return now.id === "resid_mid" || now.id === "resid_post" ? `${length}; before the add it was ${shown(norm_of(own_row(walk, before)))}, and what was added has ${shown(norm_of(own_row(walk, sources[1]!)))}.` : `${length}.`;
};

const logits: Finding = ({ pass, place }) => {
  const row = pass.row("logits", null, place.pos), [best] = largest(row, 1);
  return `After ${token(pass, place.pos)} the token ${in_quotes(pass.columns[best!]!)} has the largest logit: ${shown(row[best!]!)}.`;
};

const probs: Finding = ({ pass, place }) => {
  const row = pass.row("probs", null, place.pos), said = largest(row, 4).map((i) => `${in_quotes(pass.columns[i]!)} ${shown(row[i]!)}`).join(", "), next = pass.content.ids[place.pos + 1];
  const came = next === undefined ? "" : ` What came was ${token(pass, place.pos + 1)}: ${shown(Math.exp(-pass.value("loss", null, place.pos + 1)))}.`;
  return `After ${token(pass, place.pos)} the likeliest next tokens are ${said}.${came}`;
};

const loss: Finding = ({ pass, place }) => {
  const all = pass.row("loss", null), own = all[place.pos]!, rest = all.slice(1), total = rest.length ? ` The mean of all ${rest.length} is ${shown(mean(rest))} nats.` : "";
  if (!place.pos) return `Nothing comes before ${token(pass, 0)}, so nothing predicts it.${total}`;
  return `${token(pass, place.pos)} at ${place.pos} had been given the probability ${shown(Math.exp(-own))} by the logits at ${place.pos - 1}, the position before: −log of it is ${shown(own)} nats.${total}`;
};

const gelu: Finding = (walk) => {
  const row = own_row(walk, "mlp_pre"), on = row.filter((x) => x > 0).length;
  return `At ${token(walk.pass, walk.place.pos)} ${on} of ${row.length} neurons are above zero.`;
};

const lens: Finding = ({ pass, place }) => {
  const { lens_top, lens_prob, columns } = pass.view.arrays, n = pass.tokens.length, word = (layer: number) => pass.columns[columns!.values.indexOf(lens_top!.values[layer * n + place.pos]! as never)];
  const first = place.layer, last = pass.n_layer - 1;
  return `Read after L${first}, ${token(pass, place.pos)} would go on with ${in_quotes(word(first)!)} (${lens_prob!.values[first * n + place.pos]!.toFixed(2)}); after the last block, L${last}, with ${in_quotes(word(last)!)}.`;
};

const embed: Finding = (walk) => `The vector of ${token(walk.pass, walk.place.pos)} has the norm ${shown(norm_of(own_row(walk)))}.`;

const findings: Record<string, Finding> = {
  embed, pos_embed: embed, resid_pre: stream, ln_1: norm, raw_scores: scores, mask: scores, pattern, attn_out: stream, resid_mid: stream, ln_2: norm, mlp_post: gelu, mlp_out: stream,
  resid_post: stream, blocks: lens, ln_final: norm, logits, probs, loss,
};

/** The sentence of the stage at the chosen token; "" where there is none, or where it must first be predicted. */
export function finding(walk: Walk): string {
  const told = findings[walk.now.id], result = walk.now.tensors.at(-1);
  return !told || !result || walk.hidden || !walk.here(result) ? "" : told(walk);
}

/** A tensor with the names of its axes: pattern: head 3 × query 11 × key 11. */
export function shape_words(pass: Pass, name: string): string {
  const { axes, shape } = pass.content.tensors[name]!, layered = axes[0] === "layer";
  const parts = shape.map((n, i) => `${axes[i]} ${n}`).slice(layered ? 1 : 0);
  return `${name}: ${parts.join(" × ")}${layered ? `, in each of ${shape[0]} ${shape[0] === 1 ? "layer" : "layers"}` : ""}`;
}
