// The scores of the heads, as the grid labels, sorts and greys them.
import { detail_at } from "./details.ts";
import type { View } from "./payload.ts";
import type { Scene } from "./scene.ts";

type Seen = Pick<Scene, "views" | "options_of">;

/** One score of all heads; places count layer by layer. */
export interface Score { name: string; words: string; value: Float32Array; low: Float32Array; high: Float32Array; most: number; unit: string }

/** "most" is no score: the largest weight of the looked-at query; "stands_out" is the one of each head that stands out from its null. */
export const chosen_score = ({ options_of }: Pick<Scene, "options_of">): string => options_of("heads").score ?? "stands_out";

/** The numbers, once they are here. */
export function scores_of({ views }: Pick<Scene, "views">): View | null {
  const view = views.find((one) => one.kind === "head_scores");
  return view?.detail_axes ? detail_at(view, {}) : null;
}

export function score_named(scene: Pick<Scene, "views">, name: string): Score | null {
  const all = scores_of(scene), row = all?.labels.score!.indexOf(name) ?? -1;
  if (!all || row < 0) return null;
  const [, n_layer, n_head] = all.arrays.value!.shape as [number, number, number], n = n_layer * n_head;
  const cut = (array: string) => all.arrays[array]!.values.subarray(row * n, (row + 1) * n) as Float32Array;
  const value = cut("value"), finite = [...value].filter(Number.isFinite);
  const most = name === "distance" ? Math.max(1, ...finite) : 1;
  return { name, words: all.labels.words![row]!, value, low: cut("null_low"), high: cut("null_high"), most, unit: name === "distance" ? " tokens" : "" };
}

/** The score that a head is labelled with; null where none stands out, or none was computed. */
export function score_of(scene: Seen, at: number): Score | null {
  const chosen = chosen_score(scene);
  if (chosen === "most") return null;
  const label = chosen === "stands_out" ? scores_of(scene)?.arrays.label!.values[at] ?? -1 : -1;
  return score_named(scene, chosen === "stands_out" ? (label < 0 ? "" : scores_of(scene)!.labels.score![label]!) : chosen);
}

/** Whether the scores are here and no head of this text has one that stands out. */
export const none_stands_out = (scene: Seen): boolean => Boolean(scores_of(scene)?.arrays.label!.values.every((at) => at < 0));

/** Whether heads can be sorted by what they are labelled with, now or when the scores are here. */
export const can_sort = (scene: Seen): boolean =>
  chosen_score(scene) !== "most" && scene.views.some((view) => view.kind === "head_scores" && view.detail_axes) && !(chosen_score(scene) === "stands_out" && none_stands_out(scene));

/** What the heads are sorted by, or why they are not, as a sentence. */
export function sort_words(scene: Seen): string {
  const view = scene.views.find((one) => one.kind === "head_scores"), chosen = chosen_score(scene), score = score_named(scene, chosen);
  const not = (why: string) => `Not sorted: ${why}. The heads stand by layer and head.`;
  if (!view) return not("this board has no scores of the heads on this text; gptviz.explore(trace, model) has them");
  if (!view.detail_axes) return not(`there are no scores, ${view.subtitle.replace(/^none: /, "")}`);
  if (chosen === "most") return not("the largest weight is that of one query; choose a score as label");
  if (!scores_of(scene)) return not("the scores are not here yet");
  if (score) return `Sorted by the ${score.words} score, highest first.`;
  return none_stands_out(scene) ? not("no head stands out; choose a score as label") : "Sorted by the score that stands out, highest first; heads without one are last.";
}

/** Outside its band, in which chance would leave it 19 times in 20, on the side that means something. */
export const beats_null = (score: Score, at: number): boolean =>
  score.name === "entropy" ? score.value[at]! < score.low[at]! : score.name === "distance" ? score.value[at]! < score.low[at]! || score.value[at]! > score.high[at]! : score.value[at]! > score.high[at]!;
