// Which attention the heads show: as recorded, without the first token, of the other trace, or the difference of both.
import { Pattern, spread, values_of } from "./pattern.ts";
import type { NumberArray, View } from "./payload.ts";
import { heads_view, type Scene } from "./scene.ts";

const least_mass = 0.01; // what is left of a row without the first token, below which its shares would be rounding, magnified

/** Each row without key 0, divided by what is left. */
class WithoutSink extends Pattern {
  private left(layer: number, head: number, query: number): number { return query ? 1 - super.weight(layer, head, query, 0) : 0; }

  override removed(layer: number, head: number, query: number, key: number): boolean {
    return key === 0 || (this.has(layer, head, query) && !(this.left(layer, head, query) >= least_mass));
  }

  override weight(layer: number, head: number, query: number, key: number): number {
    const left = this.left(layer, head, query);
    return key === 0 || left < least_mass ? 0 : super.weight(layer, head, query, key) / left;
  }

  override byte(layer: number, head: number, query: number, key: number): number {
    if (!this.has(layer, head, query)) return super.byte(layer, head, query, key);
    return Math.round(255 * Math.sqrt(Math.min(1, Math.max(0, this.weight(layer, head, query, key) || 0))));
  }

  override rounding(layer: number, head: number, query: number, key: number): number {
    return super.rounding(layer, head, query, key) / Math.max(least_mass, this.left(layer, head, query));
  }

  override peak(layer: number, head: number, query: number): number {
    return this.has(layer, head, query) ? this.weight(layer, head, query, this.strongest(layer, head, query)) : NaN;
  }
}

/** The largest change of any weight, where Python did not say it: of two steps, which are compared here. 1 where nothing changes. */
function largest_change({ pattern, other_pattern }: View["arrays"]): number {
  const value = ({ values }: NumberArray) => (values instanceof Float32Array ? (i: number) => values[i]! : (i: number) => values_of[values[i]!]!);
  const before = value(pattern!), after = value(other_pattern!);
  let most = 0;
  for (let i = 0; i < pattern!.values.length; i++) { const change = Math.abs(after(i) - before(i)); if (change > most) most = change; }
  return most || 1;
}

/** The other trace's weight minus this one's, or, where the other is an earlier step, minus that; bytes of 128 + 127 sign(d) sqrt|d / most|. */
class Difference extends Pattern {
  private other: Pattern;
  private sign: number;
  private readonly end: number;
  constructor(view: View) {
    super(view);
    this.other = new Pattern(view, "other_");
    this.sign = view.content?.since === undefined ? 1 : -1;
    this.end = view.range.change?.[1] ?? largest_change(view.arrays);
  }

  override get around_zero(): boolean { return true; }
  override get most(): number { return this.end; }

  override weight(layer: number, head: number, query: number, key: number): number {
    return this.sign * (this.other.weight(layer, head, query, key) - super.weight(layer, head, query, key));
  }

  override byte(layer: number, head: number, query: number, key: number): number {
    if (!this.has(layer, head, query)) return 128;
    const change = this.weight(layer, head, query, key) || 0;
    return Math.round(128 + 127 * Math.sign(change) * Math.sqrt(Math.min(1, Math.abs(change) / this.end)));
  }

  override rounding(layer: number, head: number, query: number, key: number): number {
    return super.rounding(layer, head, query, key) + this.other.rounding(layer, head, query, key);
  }

  /** The key whose weight changed most. */
  override strongest(layer: number, head: number, query: number): number {
    let best = 0;
    for (let key = 1; key <= query; key++)
      if (Math.abs(this.weight(layer, head, query, key)) > Math.abs(this.weight(layer, head, query, best))) best = key;
    return best;
  }

  override peak(layer: number, head: number, query: number): number {
    return this.has(layer, head, query) ? this.weight(layer, head, query, this.strongest(layer, head, query)) : NaN;
  }

  protected override pooled(layer: number, head: number, size: number): Uint8ClampedArray {
    return spread(this.n_tokens, size, (query, key) => this.byte(layer, head, query, key), (query) => query + 1, 128);
  }

  protected override resampled(layer: number, head: number, size: number): Uint8ClampedArray {
    const { values, shape } = this.view.arrays.change_tiles!, side = shape[2]!, start = (layer * this.n_head + head) * side * side;
    return spread(side, size, (row, column) => values[start + row * side + column]!, () => side, 128);
  }
}

export type Shown = "this" | "other" | "difference" | "no_sink";

const made = new WeakMap<View, Partial<Record<Shown, Pattern>>>();

/** Whether the view holds a second trace's pattern. */
export const has_other = (view: View): boolean => Boolean(view.arrays.other_pattern ?? view.arrays.other_tiles);

/** What the two patterns are called. */
export const names_of = (view: View): [string, string] => (view.labels.compared as [string, string] | undefined) ?? ["this", "the other"];

/** Which minus which the difference is. */
export function minus_words(view: View): string {
  const [first, second] = names_of(view);
  return view.content?.since === undefined ? `${second} − ${first}` : `${first} − ${second}`;
}

/** Two that are compared, and which minus which; nothing where there is one. */
export function compared_words(views: View[]): string {
  const view = heads_view(views);
  return view && has_other(view) ? `comparing ${names_of(view).join(" and ")} · difference: ${minus_words(view)}` : "";
}

const of_one_pass = new Set(["reads", "lines", "text", "ruler", "after", "next", "tree", "scores", "lens", "writes", "querykey", "decomposition"]);

/** Where two are compared, whose numbers a panel shows that knows only one of them; else nothing. */
export function whose(views: View[], panel: string): string {
  const view = heads_view(views);
  return view && has_other(view) && of_one_pass.has(panel) ? `of ${names_of(view)[0]}` : "";
}

/** What the reader chose in the heading of the large head. */
export function shown_of({ options_of, views }: Pick<Scene, "options_of" | "views">): Shown {
  const { compare, sink } = options_of("head"), view = heads_view(views);
  if (view && has_other(view) && (compare === "other" || compare === "difference")) return compare;
  return sink === false ? "no_sink" : "this";
}

/** What the axes of the large head say: the tokens of the pass that is shown; of a difference a/b where two texts differ. */
export function named_tokens(scene: Pick<Scene, "options_of" | "views" | "tokens">): string[] {
  const other = heads_view(scene.views)?.labels.other_token, shown = shown_of(scene);
  if (!other || shown === "this" || shown === "no_sink") return scene.tokens;
  return shown === "other" ? other : scene.tokens.map((token, i) => (token === other[i] ? token : `${token}/${other[i]}`));
}

/** The pattern that the heads show. */
export function shown_pattern(scene: Pick<Scene, "options_of" | "views" | "pattern">): Pattern {
  const shown = shown_of(scene), view = heads_view(scene.views);
  if (shown === "this" || !view) return scene.pattern!;
  const kept = made.get(view) ?? {};
  made.set(view, kept);
  return (kept[shown] ??= shown === "no_sink" ? new WithoutSink(view) : shown === "other" ? new Pattern(view, "other_") : new Difference(view));
}
