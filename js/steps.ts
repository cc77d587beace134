// The numbers along an axis of steps.
import type { Pen } from "./paint.ts";
import { whole } from "./text.ts";

export interface StepAxis { first: number; last: number; y: number; width: number; x_of(step: number): number }

const near = 12, apart = 24; // pixels between two numbers: at least, and where it is only for orientation

/** Round steps between two others, the roundest first: 1, 2 and 5 of each power of ten, and the multiples of those that cut the range into at most ten. */
export function round_steps(first: number, last: number): number[] {
  const found = new Set<number>();
  for (let power = 10 ** Math.floor(Math.log10(Math.max(1, last))); power >= 1; power /= 10) {
    for (const unit of [5 * power, 2 * power, power]) {
      const most = (last - first) / unit <= 10 ? last : unit;
      for (let step = unit * (Math.floor(first / unit) + 1); step <= most && step < last; step += unit) found.add(step);
    }
  }
  return [...found];
}

/** Name steps below an axis: the chosen one, both ends, and round ones wherever there is room; `taken` are stretches of x where there is none. */
export function name_steps(pen: Pen, { first, last, y, width, x_of }: StepAxis, chosen: number | null, taken: [number, number][] = []): void {
  const write = (step: number, gap: number) => {
    const lit = step === chosen, words = whole(step), weight = lit ? 600 : 400, half = pen.width(words, { weight }) / 2, x = Math.min(width - half, x_of(step));
    if (taken.some(([left, right]) => x + half > left - gap && x - half < right + gap)) return;
    taken.push([x - half, x + half]);
    pen.text(words, x, y, { align: "center", colour: lit ? pen.theme.accent : pen.theme.ink_2, weight });
  };
  for (const step of [...(chosen === null ? [] : [chosen]), first, last]) write(step, near);
  for (const step of round_steps(first, last)) write(step, apart);
}
