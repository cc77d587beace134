// Parts of a view that are asked for when they are looked at: a head of a long text, the writes at a position.
import { Link, type Ask } from "./link.ts";
import type { Corner } from "./panel.ts";
import { decode_view, type RawView, type View } from "./payload.ts";
import type { Look } from "./scene.ts";

export type Place = Record<string, number>;
export interface Found { view: View | null; words: string } // the words say why there is none

export const left_out = "left out of this page to keep it small; the notebook shows it";

/** Whether a page holds nothing of a view that is drawn from its details alone: there is nothing to unfold. */
export const is_left_out = ({ detail_axes, details, arrays }: Pick<View, "detail_axes" | "details" | "arrays">): boolean =>
  Boolean(detail_axes) && !Object.keys(details ?? {}).length && !Object.keys(arrays).length;

const kept = 48; // of a view: a reader who walks over all heads must not fill the browser
const store = new WeakMap<View, Map<string, View>>();

/** The detail of a view at a place, if it is here. */
export const detail_at = (view: View, place: Place): View | null => {
  const name = name_of(view, place), here = store.get(view), found = here?.get(name);
  if (found) return found;
  const raw = view.details?.[name]; // a page holds them all: each is decoded when it is looked at
  return raw ? remember(view, name, decode_view(raw)) : null;
};

const name_of = (view: View, place: Place): string => (view.detail_axes ?? []).map((axis) => place[axis]).join(",");

function remember(view: View, name: string, detail: View): View {
  const here = store.get(view) ?? new Map<string, View>();
  if (here.size >= kept) here.delete(here.keys().next().value!);
  store.set(view, here.set(name, detail));
  return detail;
}

/** Where the reader looks, in the words of the detail; rows count in whole blocks. */
export function place_of(view: View, look: Look, corner: Corner): Place {
  const block = view.arrays.block?.values[0] ?? 1, all: Place = { ...look, rows: Math.floor(corner.query / block) * block };
  return Object.fromEntries((view.detail_axes ?? []).map((axis) => [axis, all[axis]!]));
}

/** Asks for details, one at a time for each kind of view; the latest wins. */
export class Details {
  private links = new Map<string, Link>();
  private wanted = new Map<string, View>(); // what was asked -> the view that it belongs to
  private errors = new WeakMap<View, Map<string, string>>();

  constructor(private live: boolean, private send: (message: object) => void) {}

  /** The detail at a place; where it is not here it is asked for. */
  find(view: View, place: Place, step: number | null, text: string): Found {
    if (!view.detail_axes) return { view: null, words: "" };
    const found = detail_at(view, place), error = this.errors.get(view)?.get(name_of(view, place));
    if (found || error) return { view: found, words: error ?? "" };
    if (!this.live) return { view: null, words: left_out };
    this.ask(view, place, step, text);
    return { view: null, words: "asking the kernel …" };
  }

  private ask(view: View, place: Place, step: number | null, text: string): void {
    const wish: Ask = { ask: "detail", kind: view.kind, step, text, at: place };
    this.wanted.set(JSON.stringify(wish), view);
    if (this.wanted.size > 200) this.wanted.delete(this.wanted.keys().next().value!); // wishes overtaken by later ones
    let link = this.links.get(view.kind);
    if (!link) this.links.set(view.kind, (link = new Link(this.send)));
    if (!link.awaits(wish)) link.ask(wish);
  }

  /** Takes an answer of the kernel; whether it was one of ours. */
  receive(content: any, buffers: DataView[]): boolean {
    for (const link of this.links.values()) {
      const wish = link.answered(content);
      if (!wish) continue;
      this.keep(wish, content, buffers);
      link.painted();
      return true;
    }
    return false;
  }

  private keep(wish: Ask, content: any, buffers: DataView[]): void {
    const name = JSON.stringify(wish), view = this.wanted.get(name), place = wish.at as Place;
    this.wanted.delete(name);
    if (view && content.detail) remember(view, name_of(view, place), decode_view(content.detail as RawView, buffers));
    if (view && content.error) this.errors.set(view, (this.errors.get(view) ?? new Map()).set(name_of(view, place), content.error));
  }

  stop(): void { for (const link of this.links.values()) link.stop(); }
}
