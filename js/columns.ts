// Where the sections of the panels stand on the page.
import { bands, gap, type Arrangement } from "./arrange.ts";
import { make, type Mounted } from "./chrome.ts";
import type { Slot } from "./panel.ts";

/** A panel, where it wants to stand, whether half the width is enough for it there, and how high it is as a rule. */
export interface Placing { mounted: Mounted; slot: Slot; half: boolean; tall: number }

const slots: Slot[] = ["top", "left", "centre", "right", "below"];
const one_column: Slot[] = ["top", "left", "right", "centre", "below"]; // the large head before the small ones

const order = ["controls", "ruler", "text", "heads", "after", "next", "head", "reads", "scores", "lens", "lines", "guesses", "film", "writes", "tree", "edits", "querykey", "decomposition", "circuits", "composition", "embeddings", "positions", "events", "loss", "curves", "bands"];
const rank = ({ mounted }: Placing): number => { const at = order.indexOf(mounted.panel.name); return at < 0 ? order.length : at; };

export class Columns {
  private readonly holders = Object.fromEntries(slots.map((slot) => [slot, make("div", `gv-slot gv-${slot}`)])) as unknown as Record<Slot, HTMLElement>;
  private placed = "";
  private beside = new Set<Mounted>(); // that stand in one of two columns

  constructor(private readonly root: HTMLElement) {}

  get all(): HTMLElement[] { return slots.map((slot) => this.holders[slot]); }

  /** Whether a panel below the heads has half of the width. */
  shares_width(mounted: Mounted): boolean { return this.beside.has(mounted); }

  /** Place the sections anew the next time: there are others. */
  forget(): void { this.placed = ""; }

  /** Move the sections only when the arrangement changes: moving takes the focus away. */
  place(placings: Placing[], { columns, widths, large, width }: Arrangement, outer: number, footer: HTMLElement): void {
    const name = JSON.stringify([columns, widths, large, placings.map(({ mounted, slot, half }) => [mounted.panel.name, slot, half])]);
    if (name === this.placed) return;
    this.placed = name;
    this.root.style.gridTemplateColumns = columns === 3 ? `${widths.left}px ${widths.centre}px ${widths.right}px`
      : columns === 2 ? `${widths.left}px ${widths.right}px` : `${widths.left}px`;
    this.root.style.columnGap = `${gap}px`;
    this.root.dataset.columns = String(columns);
    this.root.classList.toggle("gv-large", large);
    this.root.classList.toggle("gv-narrow", outer < 700);
    for (const slot of columns === 1 ? one_column : slots) {
      const here = placings.filter((one) => one.slot === slot).sort((a, b) => rank(a) - rank(b)), holder = this.holders[slot];
      this.root.insertBefore(holder, footer);
      const parts = slot === "below" && width >= 1000 ? bands(here, (one) => one.half, (one) => one.tall) : here;
      if (slot === "below") this.beside = new Set(parts.flatMap((part) => (Array.isArray(part) ? part.flat().map((one) => one.mounted) : [])));
      holder.replaceChildren(...parts.map(band));
      holder.hidden = !here.length;
    }
  }
}

const section = ({ mounted }: Placing): HTMLElement => mounted.section;

/** A panel of the whole width, or two columns of halves. */
function band(part: Placing | [Placing[], Placing[]]): HTMLElement {
  if (!Array.isArray(part)) return section(part);
  const pair = make("div", "gv-pair");
  for (const column of part) { const one = make("div", "gv-column"); one.append(...column.map(section)); pair.append(one); }
  return pair;
}
