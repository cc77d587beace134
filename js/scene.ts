// What the panels draw from: the frame, the theme, and the shared selection resolved to one cell.
import type { Arrangement } from "./arrange.ts";
import { Pattern } from "./pattern.ts";
import type { Corner, Options } from "./panel.ts";
import type { RawBoard, Selection, View } from "./payload.ts";
import type { Measure } from "./text.ts";
import type { Theme } from "./theme.ts";

/** The selection with every blank filled: what is being looked at. */
export interface Look { step: number; layer: number; head: number; query: number; key: number }

export interface Scene {
  board: RawBoard; views: View[]; view: View; pattern: Pattern | null; tokens: string[];
  /** Chosen by click or key, and the traits of the widget. */
  selection: Selection;
  /** Under the mouse: a preview over the selection. */
  hover: Partial<Selection>;
  look: Look; corner: Corner; place: Arrangement; theme: Theme; measure: Measure;
  /** More of `view` where the reader looks; while it is not here, the words say why. */
  detail: View | null; detail_words: string;
  /** The values of the panel's own controls. */
  options: Options;
  /** What more of this panel is under the mouse: the `spot` of its hit. */
  spot: unknown;
  /** Those of another panel, by its name. */
  options_of(panel: string): Options;
  /** Whether a kernel answers: without one there is nothing to edit, generate or ask. */
  live: boolean;
}

const patterns = new WeakMap<View, Pattern>();

/** The view of the heads, where there is one. */
export const heads_view = (views: View[]): View | undefined => views.find((one) => one.kind === "attention");

export function pattern_of(views: View[]): Pattern | null {
  const view = heads_view(views);
  if (!view) return null;
  let pattern = patterns.get(view);
  if (!pattern) patterns.set(view, (pattern = new Pattern(view)));
  return pattern;
}

export const tokens_of = (views: View[]): string[] => views.find((one) => one.labels.token)?.labels.token ?? [];

const inside = (value: number | null | undefined, count: number): number | null =>
  value == null || value < 0 || value >= count ? null : value;

/** Hover first, then the choice, then what was last looked at; the key defaults to the strongest one. */
export function look_at(selection: Selection, hover: Partial<Selection>, before: Partial<Look>, views: View[], last_step: number): Look {
  const pattern = pattern_of(views), n_tokens = tokens_of(views).length;
  const pick = (name: keyof Selection, count: number) =>
    inside(hover[name], count) ?? inside(selection[name], count) ?? inside(before[name], count);
  const layer = pick("layer", pattern?.n_layer ?? 0) ?? 0, head = pick("head", pattern?.n_head ?? 0) ?? 0;
  const chosen_query = inside(hover.query, n_tokens) ?? inside(selection.query, n_tokens);
  const query = chosen_query ?? Math.max(0, n_tokens - 1);
  const own_key = hover.key ?? (hover.query == null || hover.query === selection.query ? selection.key : null);
  const key = inside(own_key, n_tokens) ?? pattern?.strongest(layer, head, query) ?? 0;
  return { step: hover.step ?? selection.step ?? last_step, layer, head, query, key };
}

/** The recorded step nearest to a wish; steps are sorted. */
export function nearest(steps: number[], wish: number): number {
  return steps.reduce((best, step) => (Math.abs(step - wish) < Math.abs(best - wish) ? step : best), steps[0] ?? 0);
}

/** Keep the window inside the text, and the chosen cell inside the window where it was outside. */
export function follow(corner: Corner, look: Pick<Look, "query" | "key">, size: number, n_tokens: number): Corner {
  const last = Math.max(0, n_tokens - size);
  const fit = (first: number, at: number) =>
    Math.max(0, Math.min(last, at >= first && at < first + size ? first : at - Math.floor(size / 2)));
  return { query: fit(corner.query, look.query), key: fit(corner.key, look.key) };
}
