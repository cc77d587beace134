// What the model expects after the chosen position, and what really follows; for boards that hold no logits.
import type { Panel, Sized } from "../panel.ts";
import type { View } from "../payload.ts";
import type { Scene } from "../scene.ts";
import { draw_bars, pitch, says_after, truth_words, type Bar } from "../bars.ts";
import { quoted } from "../text.ts";
import { Pen } from "../paint.ts";

export interface Choice { word: string; p: number; at: number }

/** The likeliest tokens after a position, as a view with `top_words` holds them. */
export function choices_at(view: View, query: number): Choice[] {
  const words = view.arrays.top_words, probs = view.arrays.top_probs, k = words?.shape[1] ?? 0;
  if (!words || !probs || query < 0 || query >= words.shape[0]!) return [];
  return Array.from({ length: k }, (_, i) => {
    const at = words.values[query * k + i]!;
    return { word: view.labels.word![at]!, p: probs.values[query * k + i]!, at };
  });
}

export const choices = ({ view, look, tokens }: Pick<Scene, "view" | "look" | "tokens">): Bar[] =>
  choices_at(view, look.query).map(({ word, p }) => ({ word, p, true: word === tokens[look.query + 1] }));

/** The token that really follows: its rank and loss. */
export function truth({ view, look, tokens }: Pick<Scene, "view" | "look" | "tokens">): string {
  const next = look.query + 1;
  return next >= tokens.length ? "the text ends here" : truth_words(view.arrays.rank?.values[next] ?? 0, view.arrays.loss!.values[next]!);
}

const after: Panel<Sized> = {
  kind: "tokens", name: "after",
  slot: ({ view, views }) => (view.arrays.top_words && !views.some((one) => one.kind === "next") ? "left" : null),
  heading: ({ tokens, look }) => ({ title: `After ${quoted(tokens[look.query] ?? "")}`, subtitle: `position ${look.query} · probability` }),
  layout: ({ view }, width) => ({ width, height: (view.arrays.top_words?.shape[1] ?? 0) * pitch + 32 }),
  draw() {},
  mark: (ctx, rows, scene) => draw_bars(new Pen(ctx, scene.theme), rows.width, choices(scene), scene.tokens[scene.look.query + 1], truth(scene), scene.measure),
  hit: () => null,
  says: (scene) => says_after(scene, choices(scene), truth(scene)),
};

export const panels: Panel[] = [after];
