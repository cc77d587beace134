// A tree of continuations along one path: at each step its alternatives. The kernel adds steps; the browser keeps them.
import type { Options } from "./panel.ts";
import type { View } from "./payload.ts";
import { choices_at } from "./views/after.ts";

export interface Node { id: number; word: string; p: number }
/** `own`: the reader chose it; otherwise the likeliest was followed. */
export interface Step { nodes: Node[]; chosen: Node | null; own: boolean }

export const deepest = 12, per_request = 4;

/** A name for a text and a step, short and the same every time (cyrb53). */
export function name_of(ids: ArrayLike<number>, step: number): string {
  let a = 0xdeadbeef ^ step, b = 0x41c6ce57 ^ step;
  for (let i = 0; i < ids.length; i++) {
    a = Math.imul(a ^ ids[i]!, 2654435761); b = Math.imul(b ^ ids[i]!, 1597334677);
    a ^= a >>> 15; b ^= b >>> 13;
  }
  return `${ids.length}:${((4294967296 * (2097151 & b)) + (a >>> 0)).toString(36)}`;
}

/** The tokens that can follow a position: those that came with the text. */
function roots(view: View, query: number): Node[] {
  return choices_at(view, query).map(({ word, p, at }) => ({ id: view.arrays.word_ids!.values[at]!, word, p }));
}

export class Tree {
  readonly prefix: number[];
  readonly root: string;
  /** What the reader chose, step by step, as far as it belongs to this root. */
  readonly path: number[];

  constructor(private readonly view: View, private readonly query: number, private readonly step: number, private readonly options: Options) {
    this.prefix = Array.from(view.arrays.ids!.values.slice(0, query + 1));
    this.root = name_of(this.prefix, step);
    this.path = options.root === this.root ? (options.path ?? []) : [];
  }

  key(path: number[]): string { return name_of([...this.prefix, ...path], this.step); }

  /** The alternatives after a path: answered for it, or for a shorter one whose likeliest continuation it follows. */
  after(path: number[]): Node[] | null {
    if (!path.length) return roots(this.view, this.query);
    for (let back = 0; back < path.length; back++) {
      const begin = path.length - back, steps = this.options[this.key(path.slice(0, begin))] as Node[][] | undefined;
      if (steps && steps.length > back && path.slice(begin).every((id, i) => steps[i]![0]!.id === id)) return steps[back]!;
    }
    return null;
  }

  /** The steps to show: the reader's choices, then the likeliest path as far as it is known. */
  steps(): Step[] {
    const steps: Step[] = [], path: number[] = [];
    while (steps.length < deepest) {
      const nodes = this.after(path), own = path.length < this.path.length;
      if (!nodes?.length) break;
      const next = own ? this.path[path.length]! : nodes[0]!.id;
      const chosen = own || (this.path.length && this.after([...path, next])) ? nodes.find((one) => one.id === next) ?? null : null;
      steps.push({ nodes, chosen, own });
      if (!chosen) break;
      path.push(next);
    }
    return steps;
  }

  /** What choosing a node of a step changes, and what to ask the kernel where it is not known. */
  choose(step: number, node: Node): { options: Options; ids: number[] | null; at: string; steps: number } {
    const path = [...this.steps().slice(0, step).map((one) => one.chosen!.id), node.id], known = this.after(path) || path.length >= deepest;
    return { options: { root: this.root, path }, ids: known ? null : [...this.prefix, ...path], at: this.key(path), steps: Math.min(per_request, deepest - path.length) };
  }
}
