// Attention as it travels: the lower triangle row by row, one byte of 255*sqrt(p) per cell, or a float32 where the text is
// short or a value is not finite. Read by offset, never unpacked.
import type { NumberArray } from "./payload.ts";

export class Pattern {
  readonly n_layer: number;
  readonly n_head: number;
  readonly exact: boolean; // float32 rather than bytes
  private readonly size: number; // cells of a head
  private tiles = new Map<string, Uint8ClampedArray>();

  constructor(private array: NumberArray, readonly n_tokens: number) {
    [this.n_layer, this.n_head] = array.shape as [number, number];
    this.size = (n_tokens * (n_tokens + 1)) / 2;
    this.exact = array.values instanceof Float32Array;
  }

  private offset(layer: number, head: number, query: number, key: number): number {
    return (layer * this.n_head + head) * this.size + (query * (query + 1)) / 2 + key;
  }

  /** Probability that `query` gives `key`; NaN and infinities as recorded; 0 above the diagonal. */
  weight(layer: number, head: number, query: number, key: number): number {
    if (key > query) return 0;
    const value = this.array.values[this.offset(layer, head, query, key)]!;
    return this.exact ? value : (value / 255) ** 2;
  }

  /** 0..255, the index in the colour scale. */
  byte(layer: number, head: number, query: number, key: number): number {
    const value = this.array.values[this.offset(layer, head, query, key)]!;
    return this.exact ? Math.round(255 * Math.sqrt(Math.min(1, Math.max(0, value || 0)))) : value;
  }

  /** How far a weight may be from the model's float: half a step of sqrt(p). */
  rounding(p: number): number {
    return this.exact ? 0 : Math.sqrt(p) / 255 + (0.5 / 255) ** 2;
  }

  /** The key that this query attends to most. */
  strongest(layer: number, head: number, query: number): number {
    let best = 0, most = -1;
    for (let key = 0; key <= query; key++) {
      const p = this.weight(layer, head, query, key);
      if (p > most) { most = p; best = key; }
    }
    return best;
  }

  /** Whether any cell of the head is not finite. */
  broken(layer: number, head: number): boolean {
    if (!this.exact) return false;
    const start = this.offset(layer, head, 0, 0);
    return (this.array.values as Float32Array).subarray(start, start + this.size).some((p) => !Number.isFinite(p));
  }

  /** A head as `size` x `size` bytes, each the largest of the cells that it covers; kept for as long as the frame is. */
  tile(layer: number, head: number, size: number): Uint8ClampedArray {
    const name = `${layer} ${head} ${size}`;
    let tile = this.tiles.get(name);
    if (!tile) this.tiles.set(name, (tile = this.pooled(layer, head, size)));
    return tile;
  }

  private pooled(layer: number, head: number, size: number): Uint8ClampedArray {
    const out = new Uint8ClampedArray(size * size), n = this.n_tokens;
    const column = new Int32Array(n + 1).map((_, key) => Math.floor((key * size) / n));
    for (let query = 0; query < n; query++) {
      const start = this.offset(layer, head, query, 0);
      // With fewer tokens than pixels one cell covers several rows and columns of pixels.
      const last = Math.max(column[query]! + 1, column[query + 1]!);
      for (let key = 0; key <= query; key++) {
        const value = this.exact ? this.byte(layer, head, query, key) : this.array.values[start + key]!;
        const right = Math.max(column[key]! + 1, column[key + 1]!);
        for (let y = column[query]!; y < last; y++)
          for (let x = column[key]!; x < right; x++) if (value > out[y * size + x]!) out[y * size + x] = value;
      }
    }
    return out;
  }
}
