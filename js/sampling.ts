// Temperature, top-k and top-p over sorted logits, as gptviz.generate applies them.
import type { View } from "./payload.ts";

export interface Settings { temperature: number; top_k: number; top_p: number } // top_k 0 and top_p 1 exclude nothing

export interface Drawn {
  /** The probability with which the token of a place in the order is drawn; 0 where it is excluded. */
  p(place: number): number;
  /** That of a token beyond the logits that are here. */
  p_of(logit: number): number;
  /** How many tokens can be drawn. */
  count: number;
  /** Whether the sum holds groups of tokens that are exact at temperature 1 only. */
  rough: boolean;
}

/** `logits` fall; beyond them `sizes` tokens stand in groups, each with the logit that gives its sum at temperature 1. */
export function draw_from(logits: ArrayLike<number>, groups: ArrayLike<number>, sizes: ArrayLike<number>, { temperature, top_k, top_p }: Settings): Drawn {
  const largest = logits[0]!;
  if (temperature <= 0) return { p: (place) => (place === 0 ? 1 : 0), p_of: () => 0, count: 1, rough: false };
  const weight = (logit: number): number => Math.exp((logit - largest) / temperature);
  const lowest = top_k > 0 && top_k <= logits.length ? logits[top_k - 1]! : -Infinity; // those as likely as the k-th stay
  const all: [number, number, number][] = []; // weight, number of tokens, logit
  for (let i = 0; i < logits.length && logits[i]! >= lowest; i++) all.push([weight(logits[i]!), 1, logits[i]!]);
  if (lowest === -Infinity) for (let i = 0; i < groups.length; i++) all.push([weight(groups[i]!) * sizes[i]!, sizes[i]!, groups[i]!]);
  const total = all.reduce((sum, [w]) => sum + w, 0);
  let kept = 0, sum = 0, count = 0;
  while (kept < all.length && (top_p >= 1 || sum < top_p * total)) { sum += all[kept]![0]; count += all[kept]![1]; kept++; }
  const last = all[kept - 1]?.[2] ?? Infinity;
  return { p: (place) => (place < Math.min(kept, logits.length) ? weight(logits[place]!) / sum : 0), p_of: (logit) => (kept > logits.length && logit >= last ? weight(logit) / sum : 0),
           count, rough: kept > logits.length && temperature !== 1 };
}

/** The same of a detail of the next token; with the probability of the token that really follows. */
export function draw_after(detail: View, settings: Settings): Drawn & { truth: number | null } {
  const { logits, groups, sizes, truth, truth_logit } = detail.arrays, place = truth!.values[0]!;
  const drawn = draw_from(logits!.values, groups!.values, sizes!.values, settings);
  return { ...drawn, truth: place < 0 ? null : place < logits!.values.length ? drawn.p(place) : drawn.p_of(truth_logit!.values[0]!) };
}
