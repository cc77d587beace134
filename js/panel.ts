// A panel is a drawn part of a view: layout, draw, hit. It owns no state and no listener; board.ts does.
import type { Scene } from "./scene.ts";
import type { Selection } from "./payload.ts";

export type Slot = "top" | "left" | "centre" | "right" | "below";
export interface Sized { width: number; height: number }
/** First visible query and key of the large layout's window. */
export interface Corner { query: number; key: number }
/** What a control of the board asks the kernel to do. */
export interface Act { name: string; value?: unknown }
/** What a gesture changes: the reader's choice, the window, the panel's options; what the kernel should do; or a sentence that says why nothing changes. */
export interface Patch { selection?: Partial<Selection>; window?: Partial<Corner>; options?: Options; act?: Act; note?: string }
export type Options = Record<string, any>;
/** A control in a panel's heading. Its value is kept by the board and comes back as scene.options[name]. */
export type Control = { name: string; label: string; disabled?: string } & (
  | { kind: "choice"; choices: [string, string][] } // [value, words]
  | { kind: "toggle" } | { kind: "search"; hint: string }
  | { kind: "range"; low: number; high: number; step: number; unit?: string; off?: number } // `off`: the value that means "all"
  | { kind: "button"; act?: Act; set?: Options; primary?: boolean });
/** What lies under the mouse; `spot` is more that only this panel tells apart (scene.spot); `drag` names a handle that follows the mouse until it is let go. */
export interface Hit { at: Partial<Selection>; spot?: unknown; window?: Partial<Corner>; drag?: string; grip?: number; options?: Options; act?: Act }
export interface Heading { title: string; subtitle: string; keys?: [string, string[]][] }

export interface Panel<L extends Sized = any> {
  /** The view that it draws. */
  kind: string;
  name: string;
  /** Below the heads, half as wide as the board from 1000 px. */
  half?: boolean | ((scene: Scene) => boolean);
  /** How high it is as a rule, where that is not about 320 pixels: two columns are filled by it. */
  tall?(scene: Scene): number;
  /** Below the heads a panel folds; this one begins folded, and then neither lays out nor asks the kernel. */
  folded?: boolean;
  /** What `scene.options` begins with. */
  options?: Options;
  /** Panels whose options it draws from. */
  reads?: string[];
  controls?(scene: Scene): Control[];
  /** Where it stands in this arrangement; null where it has nothing to add. */
  slot(scene: Scene): Slot | null;
  heading(scene: Scene): Heading;
  /** Geometry for a width. Must not depend on what is hovered, or the page would jump under the mouse. */
  layout(scene: Scene, width: number): L;
  /** The picture without the selection: drawn again only when `stale` or the size or theme changes. */
  draw(ctx: CanvasRenderingContext2D, layout: L, scene: Scene): void;
  /** Whether the layout depends on the detail that is looked at. */
  by_detail?: boolean;
  /** What `draw` depends on beside frame, size and theme. */
  stale?(scene: Scene): string;
  /** What moves with the mouse; drawn on a canvas above. */
  mark(ctx: CanvasRenderingContext2D, layout: L, scene: Scene): void;
  hit(layout: L, x: number, y: number, scene: Scene): Hit | null;
  drag?(layout: L, hit: Hit, x: number, y: number, scene: Scene): Patch;
  /** Lines that a reader may copy: a caption and its text, below the picture. */
  lines?(scene: Scene): [string, string][];
  /** What a key does while the panel has the focus; also "Enter" in a search of its heading. */
  press?(key: string, scene: Scene): Patch | null;
  /** The sentence for screen readers. */
  says(scene: Scene): string;
}
