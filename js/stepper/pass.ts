// A forward pass as it came: tensors and weights by name and layer, and the words of its stages.
import type { View } from "../payload.ts";

export interface Line { scope: string; first: number; last: number }
export interface Stage {
  id: string; number: number; title: string; sentence: string; equation: [string, string][]; tensors: string[]; reads: string[]; ask: string;
  misconception: string; in_block: boolean; lines: Line[]; branch: "stream" | "attention" | "mlp"; shape: number[]; parameters: { name: string; shape: number[] }[];
}
export interface Tensor {
  axes: string[]; shape: number[]; rule: string; sources: string[]; weight: string; bias: string; first_row: number; lines: Line[];
  colour: "signed" | "share" | "size" | "id";
}
export interface Question {
  id: string; stage: string; at: Partial<Record<string, number>>; kind: "choice" | "number"; text: string; choices: string[]; answer: number;
  tolerance: number; unit: string; feedback: string[]; explanation: string;
}
export interface Switch { id: string; stage: string; title: string; sentence: string; by: string[] }
export interface Next { token: number; word: string; prob: number }
export interface Switched {
  id: string; layer: number | null; head: number | null; code: string; changed: boolean; loss: number | null; true_loss: number | null;
  losses: (number | null)[]; next: Next[]; true_next: Next[];
}
export interface Content {
  config: Record<string, any>; sizes: Record<string, number>; ids: number[]; tied: boolean; inline: boolean; weights: boolean; columns_all: boolean;
  eps: number; bound: number; edited: [string, number | null][]; left_out: string[]; label: string; learned?: string; glossary?: Record<string, string>; stages: Stage[]; tensors: Record<string, Tensor>;
  source: { file: string; text: string }; questions: Question[]; switches: { available: Switch[]; results: Switched[] }; units: Record<string, string>;
}

/** A matrix or vector without its layer: `at(i, j, ...)` counts inside it. */
export interface Slab { values: ArrayLike<number>; offset: number; shape: number[] }

/** The numbers of one plate: rows of `n_columns`, from `offset`. */
export interface Matrix { values: ArrayLike<number>; offset: number; n_rows: number; n_columns: number }

/** Whether a cell holds no number by its nature: nothing comes before the first token, so it has no loss. Any other NaN is the model's. */
export const absent = (name: string, ...at: number[]): boolean => name === "loss" && at[0] === 0;

export class Pass {
  private raw = new Map<string, Matrix>(); // scores without the mask, which do not travel
  readonly content: Content;
  readonly n_layer: number;
  readonly tokens: string[];
  readonly columns: string[];

  constructor(readonly view: View, private detail: (layer: number) => View | null) {
    this.content = (view as any).content as Content;
    this.n_layer = this.content.config.n_layer;
    this.tokens = view.labels.token!;
    this.columns = view.labels.column!;
  }

  /** A tensor or weight of a layer (null: of the model); null where it is not here. */
  slab(name: string, layer: number | null): Slab | null {
    if (name === "ids") return { values: this.content.ids, offset: 0, shape: [this.content.ids.length] };
    if (name === "lm_head.weight" && this.content.tied) name = "wte.weight";
    const whole = this.view.arrays[name];
    if (!whole) {
      const part = layer === null ? undefined : this.detail(layer)?.arrays[name];
      return part ? { values: part.values, offset: 0, shape: part.shape } : null;
    }
    if (whole.axes[0] !== "layer" || layer === null) return { values: whole.values, offset: 0, shape: whole.shape };
    const shape = whole.shape.slice(1), size = shape.reduce((a, b) => a * b, 1);
    return { values: whole.values, offset: layer * size, shape };
  }

  /** One number; NaN where it is not here. `raw_scores` do not travel: they follow from the scores, or from q and k. */
  value(name: string, layer: number | null, ...at: number[]): number {
    if (name === "raw_scores") return this.raw_score(layer!, at[0]!, at[1]!, at[2]!);
    const slab = this.slab(name, layer);
    if (!slab) return NaN;
    return slab.values[slab.offset + at.reduce((sum, i, axis) => sum * slab.shape[axis]! + i, 0)]!;
  }

  /** The numbers along the last axis. */
  row(name: string, layer: number | null, ...at: number[]): number[] {
    const slab = this.slab(name, layer);
    if (!slab) return [];
    const length = slab.shape.at(-1)!, start = slab.offset + at.reduce((sum, i, axis) => sum * slab.shape[axis]! + i, 0) * length;
    return Array.from({ length }, (_, i) => slab.values[start + i]!);
  }

  /** Two axes of a tensor (of one head) as they lie in memory; null where they are not here. */
  matrix(name: string, layer: number | null, head: number): Matrix | null {
    if (name === "raw_scores") return this.raw_scores(layer!, head);
    const slab = this.slab(name, layer);
    if (!slab) return null;
    const by_head = this.axes(name)[0] === "head", [n_rows, n_columns = 1] = by_head ? slab.shape.slice(1) : slab.shape;
    return { values: slab.values, offset: slab.offset + (by_head ? head * n_rows! * n_columns : 0), n_rows: n_rows!, n_columns };
  }

  private raw_scores(layer: number, head: number): Matrix | null {
    if (!this.slab("scores", layer)) return null;
    const name = `${layer} ${head}`, n = this.tokens.length, found = this.raw.get(name);
    if (found) return found;
    const values = new Float32Array(n * n), made = { values, offset: 0, n_rows: n, n_columns: n };
    for (let query = 0; query < n; query++) for (let key = 0; key < n; key++) values[query * n + key] = this.raw_score(layer, head, query, key);
    if (this.raw.size >= 16) this.raw.clear();
    this.raw.set(name, made);
    return made;
  }

  /** Whether a tensor of a layer is here. */
  holds = (name: string, layer: number | null): boolean => this.slab(name === "raw_scores" ? "scores" : name, layer) !== null;

  /** The layers whose tensors are here; null: all. */
  get held_layers(): number[] | null {
    if (this.content.inline) return null;
    return Object.keys(this.view.details ?? {}).map(Number).sort((a, b) => a - b);
  }

  /** What a page does not hold, in words; "" where it holds everything. */
  get page_words(): string {
    const { inline, weights: inline_weights, left_out } = this.content, details = this.view.details ?? {}, list = (layers: number[]) => layers.map((one) => `L${one}`).join(", ");
    if (inline && inline_weights) return left_out.join(" ");
    const held = this.held_layers, weights = Object.keys(details).map(Number).filter((one) => "attn.c_attn.weight" in details[one]!.arrays).sort((a, b) => a - b);
    const tensors = held === null ? "all blocks" : held.length ? list(held) : "no block";
    return [`This page holds the tensors of ${tensors} (of L0 to L${this.n_layer - 1}), the weights of ${weights.length ? list(weights) : "no block"}, and all stages outside of the blocks.`, ...left_out].join(" ");
  }

  private raw_score(layer: number, head: number, query: number, key: number): number {
    if (key <= query) return this.value("scores", layer, head, query, key);
    const q = this.slab("q", layer), k = this.slab("k", layer);
    if (!q || !k) return NaN;
    const [, n, deep] = q.shape as [number, number, number], at = q.offset + (head * n + query) * deep, from = k.offset + (head * n + key) * deep;
    let sum = 0;
    for (let i = 0; i < deep; i++) sum += q.values[at + i]! * k.values[from + i]!;
    return Math.fround(sum / Math.sqrt(deep));
  }

  readonly absent = absent;

  /** Whether every block has this tensor. */
  layered = (name: string): boolean => this.content.tensors[name]?.axes[0] === "layer";

  /** The shape without the layer, in what travelled: columns stand for the vocabulary. */
  shape(name: string): number[] {
    const { axes, shape } = this.content.tensors[name]!;
    return shape.map((n, i) => (axes[i] === "d_vocab" ? this.columns.length : n)).slice(axes[0] === "layer" ? 1 : 0);
  }

  axes(name: string): string[] {
    const { axes } = this.content.tensors[name]!;
    return axes[0] === "layer" ? axes.slice(1) : axes;
  }
}
