// How the panels share the width of the widget (not of the window). Pure geometry.

export interface Arrangement {
  width: number; columns: 1 | 2 | 3; large: boolean;
  /** Tokens along a side of the window on the locked head; all of them where they fit. */
  window: number;
  widths: { top: number; left: number; centre: number; right: number; below: number };
}

export const gap = 32;
const smallest_cell = 15; // a row of 12 px text
const least_cell = 6;     // zoomed out: only some rows keep their text
const labels = 118;       // beside the cells of the locked head

/** The arrangement, with the window as large as the reader zoomed it; 0 for as large as its rows of text can be. */
export function arrange(outer: number, n_layer: number, n_head: number, n_tokens: number, zoom = 0): Arrangement {
  const place = natural(outer, n_layer, n_head, n_tokens), most = Math.floor((place.widths.right - labels - 30) / least_cell);
  return zoom ? { ...place, window: Math.max(1, Math.min(n_tokens, zoom, most)) } : place;
}

/** From 48 tokens or 36 heads, or where a row of text would not fit, the overview and the window part. */
function natural(outer: number, n_layer: number, n_head: number, n_tokens: number): Arrangement {
  const width = Math.max(280, outer - 2 * (outer < 700 ? 16 : 24));
  const many = n_tokens >= 48 || n_layer * n_head >= 36;
  const small = many ? null : three(width) ?? two(width) ?? one(width);
  if (small && n_tokens * smallest_cell <= small.right - labels)
    return { width, columns: small.columns, large: false, window: n_tokens, widths: { top: width, below: width, ...small } };
  const tiles = Math.max(300, 40 + n_head * 36), side = labels + 30; // 30: the bars of what lies outside the window
  const wide = width >= tiles + gap + side + 20 * smallest_cell;
  const right = wide ? Math.min(width - gap - tiles, Math.max(side + 32 * smallest_cell, Math.round(width * 0.56) - gap)) : width;
  const left = wide ? width - gap - right : width, fit = Math.min(32, Math.floor((right - side) / smallest_cell));
  return { width, columns: wide ? 2 : 1, large: true, window: Math.min(n_tokens, width < 652 ? Math.min(16, fit) : fit),
           widths: { top: width, left, centre: left, right, below: width } };
}

function three(width: number) {
  if (width < 1080) return null;
  const spare = Math.max(0, width - 1352), left = 264 + Math.min(56, spare * 0.3);
  const centre = 400 - Math.max(0, 1352 - width) * 0.3 + Math.min(80, spare * 0.3);
  return { columns: 3 as const, left: Math.round(left), centre: Math.round(centre), right: Math.round(width - left - centre - 2 * gap) };
}

function two(width: number) {
  if (width < 652) return null;
  const left = Math.round(Math.min(352, width * 0.36));
  return { columns: 2 as const, left, centre: left, right: width - left - gap };
}

/** Panels below the heads in their order: one that needs the whole width, or has nothing beside it, alone; others as two columns of about equal height. */
export type Band<P> = P | [P[], P[]];

/** Heights are what a panel takes as a rule, not what it takes now: no panel changes sides because another was folded. */
export function bands<P>(panels: P[], half: (panel: P) => boolean, height: (panel: P) => number): Band<P>[] {
  const all: Band<P>[] = [];
  let tall: [number, number] | null = null;
  for (const panel of panels) {
    if (!half(panel)) { all.push(panel); tall = null; continue; }
    if (!tall) { all.push([[], []]); tall = [0, 0]; }
    const side = tall[0] <= tall[1] ? 0 : 1;
    (all.at(-1) as [P[], P[]])[side].push(panel);
    tall[side] += height(panel) + 24;
  }
  return all.map((band) => (Array.isArray(band) && !band[1].length ? band[0][0]! : band)); // the second panel of a band begins its second column
}

const one = (width: number) => ({ columns: 1 as const, left: width, centre: width, right: width });
