// Attention as it travels: the lower triangle row by row, one byte of 255*sqrt(p) per cell, or a float32 where the text is
// short or a value is not finite. Read by offset, never unpacked. Of a large model and text only tiles come at first, and
// the rows of a head when they are looked at. A row of bytes is given its sum again, as in gptviz/packing.py.
import { detail_at } from "./details.ts";
import type { NumberArray, Values, View } from "./payload.ts";

/** Rows `first` to `last` of a head: cell (query, key) is at `start` + query (query + 1) / 2 + key. */
interface Rows { values: Values; start: number; first: number; last: number; sum(query: number): number; shares: Float64Array }

const triangle = (n: number) => (n * (n + 1)) / 2;

const per_byte = (of: (byte: number) => number) => Float64Array.from({ length: 256 }, (_, byte) => of(byte));
/** The probability that a byte stands for by itself. */
export const values_of = per_byte((byte) => (byte / 255) ** 2);
// What a byte may stand for: at most so much more, at most so much less than its value.
const more = per_byte((byte) => (Math.min(255, byte + 0.5) / 255) ** 2 - values_of[byte]!);
const less = per_byte((byte) => values_of[byte]! - (Math.max(0, byte - 0.5) / 255) ** 2);

/** The share of `more` (or, below 0, of `less`) that every cell of a row takes on, so that they have its sum. */
export function share_of(bytes: ArrayLike<number>, from: number, to: number, wanted: number): number {
  let sum = 0, above = 0, below = 0;
  for (let i = from; i < to; i++) { const byte = bytes[i]!; sum += values_of[byte]!; above += more[byte]!; below += less[byte]!; }
  const missing = wanted - sum, room = missing > 0 ? above : below;
  return room > 1e-12 ? Math.max(-1, Math.min(1, missing / room)) : 0;
}

const restored = (byte: number, share: number): number => values_of[byte]! + share * (share > 0 ? more : less)[byte]!;

/** Of the bytes of one or all heads, by where a head starts: the share of every row, NaN until it is read. */
const kept_shares = new WeakMap<Values, Map<number, Float64Array>>();

export class Pattern {
  readonly n_layer: number;
  readonly n_head: number;
  readonly n_tokens: number;
  private readonly block: number; // rows of a head that come at once
  private tiles = new Map<string, Uint8ClampedArray>();
  private lately: { layer: number; head: number; rows: Rows } | null = null; // a picture of a head asks for it some 10,000 times

  /** `prefix` chooses among two patterns of one view: "" or "other_". */
  constructor(protected view: View, private prefix = "") {
    const { block } = view.arrays;
    this.n_tokens = view.labels.token!.length;
    [this.n_layer, this.n_head] = (this.own("pattern") ?? this.own("tiles")!).shape as [number, number];
    this.block = block?.values[0] ?? this.n_tokens;
  }

  private own(name: string): NumberArray | undefined { return this.view.arrays[this.prefix + name]; }

  /** Whether all heads came at once. */
  get whole(): boolean { return this.own("pattern") !== undefined; }

  /** Whether weights are differences: bytes then count from 128, which is 0. */
  get around_zero(): boolean { return false; }

  /** The weight at the end of the colour scale. */
  get most(): number { return 1; }

  /** Whether a cell was taken out of the picture, as the first key is without its sink. */
  removed(_layer: number, _head: number, _query: number, _key: number): boolean { return false; }

  private rows(layer: number, head: number, query: number): Rows | null {
    const late = this.lately;
    if (late && late.layer === layer && late.head === head && query >= late.rows.first && query < late.rows.last) return late.rows;
    const rows = this.whole ? this.own_rows(layer, head) : this.asked_rows(layer, head, query);
    if (rows) this.lately = { layer, head, rows };
    return rows;
  }

  private own_rows(layer: number, head: number): Rows {
    const at = layer * this.n_head + head, sums = this.own("sums")?.values, sum = (query: number) => sums?.[at * this.n_tokens + query] ?? 1;
    return this.kept_rows(this.own("pattern")!.values, { start: at * triangle(this.n_tokens), first: 0, last: this.n_tokens, sum });
  }

  private asked_rows(layer: number, head: number, query: number): Rows | null {
    const own = Math.floor(query / this.block) * this.block;
    for (const block of [own, own - this.block]) { // a block holds some rows of the next
      const detail = block >= 0 ? detail_at(this.view, { layer, head, rows: block }) : null;
      if (!detail) continue;
      const [first, last] = detail.arrays.rows!.values as unknown as [number, number];
      const sums = detail.arrays[`${this.prefix}sums`]?.values, sum = (query: number) => sums?.[query - first] ?? 1;
      if (query < last) return this.kept_rows(detail.arrays[`${this.prefix}cells`]!.values, { start: -triangle(first), first, last, sum });
    }
    return null;
  }

  /** Rows with the shares of their cells, which are worked out when a row is read and kept for as long as the bytes are. */
  private kept_rows(values: Values, rows: Omit<Rows, "values" | "shares">): Rows {
    let shares = kept_shares.get(values)?.get(rows.start);
    if (!shares) {
      shares = new Float64Array(values instanceof Float32Array ? 0 : rows.last - rows.first).fill(NaN);
      kept_shares.set(values, (kept_shares.get(values) ?? new Map()).set(rows.start, shares));
    }
    return { values, shares, ...rows };
  }

  private share(rows: Rows, query: number): number {
    const at = query - rows.first, from = rows.start + triangle(query), known = rows.shares[at]!;
    return Number.isNaN(known) ? (rows.shares[at] = share_of(rows.values, from, from + query + 1, rows.sum(query))) : known;
  }

  /** Whether the row of a head is here; else its weights are NaN and its bytes those of the tile. */
  has(layer: number, head: number, query: number): boolean { return this.rows(layer, head, query) !== null; }

  /** Whether the weights of a head's row are the model's own floats. */
  exact(layer: number, head: number, query: number): boolean { return this.rows(layer, head, query)?.values instanceof Float32Array; }

  /** Probability that `query` gives `key`; NaN and infinities as recorded; 0 above the diagonal; NaN where it is not here. */
  weight(layer: number, head: number, query: number, key: number): number {
    if (key > query) return 0;
    const rows = this.rows(layer, head, query);
    if (!rows) return NaN;
    const value = rows.values[rows.start + triangle(query) + key]!;
    return rows.values instanceof Float32Array ? value : restored(value, this.share(rows, query));
  }

  /** 0..255, the index in the colour scale. */
  byte(layer: number, head: number, query: number, key: number): number {
    const rows = this.rows(layer, head, query);
    if (!rows) return this.tile_byte(layer, head, query, key);
    const value = rows.values[rows.start + triangle(query) + key]!;
    return rows.values instanceof Float32Array ? Math.round(255 * Math.sqrt(Math.min(1, Math.max(0, value || 0)))) : value;
  }

  private tile_byte(layer: number, head: number, query: number, key: number): number {
    const { values, shape } = this.own("tiles")!, side = shape[2]!, at = (i: number) => Math.floor((i * side) / this.n_tokens);
    return values[((layer * this.n_head + head) * side + at(query)) * side + at(key)]!;
  }

  /** How far a weight may be from the model's float: to the farther end of what its byte may stand for. */
  rounding(layer: number, head: number, query: number, key: number): number {
    const rows = key > query ? null : this.rows(layer, head, query);
    if (!rows || rows.values instanceof Float32Array) return 0;
    const byte = rows.values[rows.start + triangle(query) + key]!, moved = restored(byte, this.share(rows, query)) - values_of[byte]!;
    return Math.max(more[byte]! - moved, less[byte]! + moved);
  }

  /** The key that this query attends to most; without the row, the first key under the brightest place of the tile. */
  strongest(layer: number, head: number, query: number): number {
    const weigh = this.has(layer, head, query) ? this.weight : this.byte;
    let best = 0, most = -1;
    for (let key = 0; key <= query; key++) {
      const p = weigh.call(this, layer, head, query, key);
      if (p > most) { most = p; best = key; }
    }
    return best;
  }

  /** The largest weight of a row. */
  peak(layer: number, head: number, query: number): number {
    const peaks = this.own("peaks");
    if (this.has(layer, head, query) || !peaks) return this.weight(layer, head, query, this.strongest(layer, head, query));
    return (peaks.values[(layer * this.n_head + head) * this.n_tokens + query]! / 255) ** 2;
  }

  /** Whether any cell of the head, as far as it is here, is not finite. */
  broken(layer: number, head: number): boolean {
    const rows = this.rows(layer, head, 0);
    if (!(rows?.values instanceof Float32Array)) return false;
    const first = rows.start + triangle(rows.first);
    return rows.values.subarray(first, rows.start + triangle(rows.last)).some((p) => !Number.isFinite(p));
  }

  /** A head as `size` x `size` bytes, each the largest of the cells that it covers; kept for as long as the frame is. */
  tile(layer: number, head: number, size: number): Uint8ClampedArray {
    const name = `${layer} ${head} ${size}`;
    let tile = this.tiles.get(name);
    if (!tile) this.tiles.set(name, (tile = this.whole ? this.pooled(layer, head, size) : this.resampled(layer, head, size)));
    return tile;
  }

  protected resampled(layer: number, head: number, size: number): Uint8ClampedArray {
    const { values, shape } = this.own("tiles")!, side = shape[2]!, start = (layer * this.n_head + head) * side * side;
    return spread(side, size, (row, column) => values[start + row * side + column]!, () => side);
  }

  protected pooled(layer: number, head: number, size: number): Uint8ClampedArray {
    return spread(this.n_tokens, size, (query, key) => this.byte(layer, head, query, key), (query) => query + 1);
  }
}

/** `n` x `n` cells as `size` x `size` pixels: each pixel the one of its cells that is farthest from `zero`; a cell may cover several pixels. */
export function spread(n: number, size: number, byte: (row: number, column: number) => number, length: (row: number) => number, zero = 0): Uint8ClampedArray {
  const out = new Uint8ClampedArray(size * size).fill(zero), first = new Int32Array(n + 1).map((_, i) => Math.floor((i * size) / n));
  for (let row = 0; row < n; row++) {
    const bottom = Math.max(first[row]! + 1, first[row + 1]!), end = length(row);
    for (let column = 0; column < end; column++) {
      const value = byte(row, column), right = Math.max(first[column]! + 1, first[column + 1]!);
      for (let y = first[row]!; y < bottom; y++) for (let x = first[column]!; x < right; x++) if (Math.abs(value - zero) > Math.abs(out[y * size + x]! - zero)) out[y * size + x] = value;
    }
  }
  return out;
}
