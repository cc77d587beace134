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
  eps: number; bound: number; edited: [string, number | null][]; left_out: string[]; label: string; stages: Stage[]; tensors: Record<string, Tensor>;
  source: { file: string; text: string }; questions: Question[]; switches: { available: Switch[]; results: Switched[] }; units: Record<string, string>;
}

/** A matrix or vector without its layer: `at(i, j, ...)` counts inside it. */
export interface Slab { values: ArrayLike<number>; offset: number; shape: number[] }

export class Pass {
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

  private raw_score(layer: number, head: number, query: number, key: number): number {
    if (key <= query) return this.value("scores", layer, head, query, key);
    const q = this.row("q", layer, head, query), k = this.row("k", layer, head, key);
    return q.length ? Math.fround(q.reduce((sum, one, i) => sum + one * k[i]!, 0) / Math.sqrt(q.length)) : NaN;
  }

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
