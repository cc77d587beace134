// The last detail that a view had: it stays, pale, while the kernel computes the next one.
import type { View } from "./payload.ts";
import type { Scene } from "./scene.ts";

const latest = new WeakMap<View, View>();

/** The detail to draw and whether it is that of another place; null before the first has come. */
export function detail_to_show({ view, detail, detail_words }: Pick<Scene, "view" | "detail" | "detail_words">): { shown: View | null; stale: boolean } {
  if (detail) latest.set(view, detail);
  const shown = detail ?? (detail_words.startsWith("asking") ? latest.get(view) : null) ?? null;
  return { shown, stale: shown !== null && !detail };
}
