// Colour scales: piecewise linear in sRGB through 9 points of equal OKLab distance, tables of 256 made once per theme.

export type Rgb = [number, number, number];
export interface Scale { css: string[]; rgba: Uint32Array; ink: string[] }

export const points = {
  light: {
    sequential: "#EFF6F8 #B6DEF2 #82C4EA #57A8DD #3B8AC9 #2F6CAC #2B5188 #26385F #1C2336",
    loss: "#FCFAF7 #F5ECE1 #EFDECA #EAD0B4 #E4C29E #DEB488 #D9A672 #D3975C #CD8844",
    negative: "#F2F2F2 #D2DFEC #B6CCE3 #9BB8D8 #80A5CD #6592C1 #4A80B5 #2E6DA9 #025A9C", // from 0 outward
    positive: "#F2F2F2 #EDDDD2 #E5C9B7 #DCB69D #D2A383 #C88F69 #BD7D4F #B26A34 #A6560D",
  },
  dark: {
    sequential: "#20252C #273C55 #28557B #24729A #2991AF #4BAFB9 #83CABC #BFDFC7 #F1F4E8",
    loss: "#24211E #302820 #3C2F22 #493724 #563E26 #644527 #724C29 #81542B #905B2C",
    negative: "#3C3F43 #404F5D #475E74 #4F6E8B #577EA1 #608EB9 #699FD0 #72B0E7 #7CC1FF",
    positive: "#3C3F43 #564B43 #6E5846 #85654B #9C7350 #B38155 #CB905B #E39F61 #FBAE67",
  },
};

export function parse(hex: string): Rgb {
  const n = parseInt(hex.slice(1), 16);
  return [n >> 16, (n >> 8) & 255, n & 255];
}

/** The colour at t in 0..1. */
export function at(stops: Rgb[], t: number): Rgb {
  const x = Math.min(1, Math.max(0, t)) * (stops.length - 1), i = Math.min(stops.length - 2, Math.floor(x));
  return stops[i]!.map((from, c) => Math.round(from + (stops[i + 1]![c]! - from) * (x - i))) as Rgb;
}

/** Relative luminance of WCAG. */
export function luminance(rgb: Rgb): number {
  const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4)) as Rgb;
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Black or white, whichever reads at >= 4.5:1 on the colour. */
export const ink_on = (rgb: Rgb): string => (luminance(rgb) > 0.179 ? "#000000" : "#FFFFFF");

/** The scale around zero: blue below, orange above; byte 128 is 0. */
export const make_diverging = ({ negative, positive }: { negative: string; positive: string }): Scale =>
  make_scale([...negative.split(" ").reverse(), ...positive.split(" ").slice(1)].join(" "));

/** The byte of a value on the scale around zero, which ends at -most and most. */
export const around = (value: number, most: number): number => 128 + Math.round(127 * Math.max(-1, Math.min(1, value / most)));

export function make_scale(hexes: string): Scale {
  const stops = hexes.split(" ").map(parse);
  const table = Array.from({ length: 256 }, (_, i) => at(stops, i / 255));
  return {
    css: table.map((c) => `rgb(${c.join(" ")})`),
    rgba: Uint32Array.from(table, ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0), // little-endian RGBA
    ink: table.map(ink_on),
  };
}
