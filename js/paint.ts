// The strokes that every panel shares: text, boxes, hatches, glyphs and legends, in the theme's colours.
import type { Scale } from "./colour.ts";
import type { Theme } from "./theme.ts";

export interface Ink { size?: number; weight?: number; mono?: boolean; colour?: string; align?: CanvasTextAlign }

export const font = (theme: Theme, ink: Ink = {}): string =>
  `${ink.weight ?? 400} ${ink.size ?? 12}px ${ink.mono ? theme.mono : theme.sans}`;

export class Pen {
  constructor(readonly ctx: CanvasRenderingContext2D, readonly theme: Theme) {
    ctx.textBaseline = "alphabetic";
    ctx.direction = "ltr"; // a right-to-left token must not turn the axis round
  }

  text(words: string, x: number, y: number, ink: Ink = {}): void {
    this.ctx.font = font(this.theme, ink);
    this.ctx.fillStyle = ink.colour ?? this.theme.ink_2;
    this.ctx.textAlign = ink.align ?? "left";
    this.ctx.fillText(words, x, y);
  }

  width(words: string, ink: Ink = {}): number {
    this.ctx.font = font(this.theme, ink);
    return this.ctx.measureText(words).width;
  }

  line(x0: number, y0: number, x1: number, y1: number, colour: string, width = 1, dash: number[] = []): void {
    const { ctx } = this;
    ctx.beginPath(); ctx.moveTo(x0, y0); ctx.lineTo(x1, y1);
    ctx.strokeStyle = colour; ctx.lineWidth = width; ctx.setLineDash(dash); ctx.stroke(); ctx.setLineDash([]);
  }

  path(points: [number, number][], colour: string, width: number, dash: number[] = []): void {
    const { ctx } = this;
    ctx.beginPath();
    points.forEach(([x, y], i) => (i ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
    ctx.strokeStyle = colour; ctx.lineWidth = width; ctx.lineJoin = "round"; ctx.setLineDash(dash); ctx.stroke(); ctx.setLineDash([]);
  }

  fill(x: number, y: number, w: number, h: number, colour: string, radius = 0): void {
    this.ctx.fillStyle = colour;
    if (!radius) return this.ctx.fillRect(x, y, w, h);
    this.ctx.beginPath(); this.ctx.roundRect(x, y, w, h, radius); this.ctx.fill();
  }

  stroke(x: number, y: number, w: number, h: number, colour: string, width = 1, radius = 0, dash: number[] = []): void {
    const { ctx } = this;
    ctx.beginPath(); ctx.roundRect(x, y, w, h, radius);
    ctx.strokeStyle = colour; ctx.lineWidth = width; ctx.setLineDash(dash); ctx.stroke(); ctx.setLineDash([]);
  }

  dot(x: number, y: number, radius: number, colour: string): void {
    this.ctx.beginPath(); this.ctx.arc(x, y, radius, 0, 2 * Math.PI); this.ctx.fillStyle = colour; this.ctx.fill();
  }

  /** The glyph of a value above the scale: the top right corner of its box, which ends at x, is cut away. */
  corner(x: number, y: number, colour = this.theme.paper): void {
    const { ctx } = this;
    ctx.beginPath(); ctx.moveTo(x - 8, y - 0.5); ctx.lineTo(x + 0.5, y - 0.5); ctx.lineTo(x + 0.5, y + 8); ctx.closePath();
    ctx.fillStyle = colour; ctx.fill();
  }

  /** 45° hatch inside a path: masked cells. */
  hatch(trace: (ctx: CanvasRenderingContext2D) => void, x: number, y: number, w: number, h: number, step = 6, colour = this.theme.rule): void {
    const { ctx } = this;
    ctx.save(); ctx.beginPath(); trace(ctx); ctx.clip(); ctx.beginPath();
    for (let d = -h; d < w; d += step) { ctx.moveTo(x + d, y + h); ctx.lineTo(x + d + h, y); }
    ctx.strokeStyle = colour; ctx.lineWidth = 1; ctx.stroke(); ctx.restore();
  }

  /** The glyph of a cell that holds no finite number. */
  strange(value: number, x: number, y: number, size: number): void {
    this.stroke(x + 0.5, y + 0.5, size - 1, size - 1, this.theme.rule_2, 1, 2);
    const sign = Number.isNaN(value) ? "×" : value > 0 ? "+∞" : "−∞";
    this.text(sign, x + size / 2, y + size / 2 + 4, { align: "center", colour: this.theme.ink, weight: 600 });
  }

  padlock(x: number, y: number): void { // a 20 x 16 flag whose bottom right corner is x, y
    const { ctx, theme } = this;
    this.fill(x - 20, y - 16, 20, 16, theme.accent, 4);
    this.fill(x - 14, y - 9, 8, 6, theme.on_accent, 1);
    ctx.beginPath(); ctx.arc(x - 10, y - 9, 2.5, Math.PI, 0); ctx.strokeStyle = theme.on_accent; ctx.lineWidth = 1.5; ctx.stroke();
  }

  /** A colour bar with ticks at even distances. */
  legend(x: number, y: number, width: number, scale: Scale, ticks: string[]): void {
    const { ctx } = this;
    for (let i = 0; i < width; i++) { ctx.fillStyle = scale.css[Math.round((255 * i) / (width - 1))]!; ctx.fillRect(x + i, y, 1, 8); }
    this.line(x, y + 8.5, x + width, y + 8.5, this.theme.rule_2);
    const crowded = ticks_meet(ticks.map((tick) => this.width(tick)), width); // then only the ends keep their numbers
    ticks.forEach((tick, i) => {
      const at = Math.round(x + (width * i) / (ticks.length - 1));
      this.line(at + (i ? -0.5 : 0.5), y + 8, at + (i ? -0.5 : 0.5), y + 12, this.theme.rule_2);
      if (!crowded || i === 0 || i === ticks.length - 1) this.text(tick, at, y + 24, { align: i === 0 ? "left" : i === ticks.length - 1 ? "right" : "center" });
    });
  }

  /** A horizontal bar in its sunk track. */
  bar(x: number, y: number, width: number, height: number, share: number, colour: string): void {
    this.fill(x, y, width, height, this.theme.sunk, 2);
    if (share > 0) this.fill(x, y, Math.max(2, width * Math.min(1, share)), height, colour, 2);
  }
}

/** Whether words of these widths come nearer than 6 px to each other below a scale: the first and last end with it, the others are centred at their tick. */
export function ticks_meet(widths: number[], width: number): boolean {
  const last = widths.length - 1, left = (i: number) => (width * i) / last - widths[i]! * (i === 0 ? 0 : i === last ? 1 : 0.5);
  return widths.some((wide, i) => i < last && left(i) + wide + 6 > left(i + 1));
}

/** Clear a canvas and draw it anew, in CSS pixels whatever the screen's. */
export function repaint(canvas: HTMLCanvasElement, draw: (ctx: CanvasRenderingContext2D) => void): void {
  const ctx = canvas.getContext("2d")!, ratio = devicePixelRatio || 1;
  ctx.setTransform(1, 0, 0, 1, 0, 0);
  ctx.clearRect(0, 0, canvas.width, canvas.height);
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  draw(ctx);
}
