// How the rank of a token changes from layer to layer: rows are the layers, the rank runs on a log scale.
import { font, type Pen } from "./paint.ts";
import { ellipsis, quoted, whole } from "./text.ts";
import { marker } from "./views/training.ts";

export interface Followed { word: string; what: string; ranks: number[] }
interface Box { x: number; y: number; w: number; tall: number }

/** Where a rank stands between 0 (the likeliest) and 1 (the last of the vocabulary). */
export const rank_share = (rank: number, n_vocab: number): number => Math.log(Math.max(1, rank)) / Math.log(Math.max(2, n_vocab));

/** 1, then powers of ten (or three) inside the vocabulary, then its size where it stands apart. */
export function rank_ticks(n_vocab: number): number[] {
  const ticks = [1], by = n_vocab > 100 ? 10 : 3;
  while (ticks.at(-1)! * by <= n_vocab) ticks.push(ticks.at(-1)! * by);
  return n_vocab / ticks.at(-1)! > 4 ? [...ticks, n_vocab] : ticks;
}

export function ranks_chart(pen: Pen, box: Box, all: Followed[], points: string[], n_vocab: number, aligned: boolean, lit: number): void {
  const { theme } = pen, bottom = box.y + points.length * box.tall, x = (rank: number) => box.x + 8 + rank_share(rank, n_vocab) * (box.w - 24), y = (point: number) => box.y + (point + 0.5) * box.tall;
  let taken = -99;
  for (const tick of rank_ticks(n_vocab)) {
    const at = Math.round(x(tick)) + 0.5, half = pen.width(whole(tick)) / 2;
    pen.line(at, box.y, at, bottom, tick === 1 ? theme.rule_2 : theme.rule);
    if (at - half > taken + 4) { pen.text(whole(tick), at, bottom + 15, { align: "center" }); taken = at + half; }
  }
  pen.text("rank, log scale →", box.x + 8, bottom + 32, { weight: 500, colour: theme.ink });
  if (!aligned) points.forEach((name, point) => pen.text(name, box.x - 10, y(point) + 4, { align: "right" }));
  if (!all.length) pen.text("no token to follow here", box.x + 8, box.y - 9, { colour: theme.ink_3 });
  all.forEach((one, i) => {
    const truth = one.what.startsWith("truth"), colour = theme.series[truth ? 2 : 0]!;
    pen.path(one.ranks.map((rank, point): [number, number] => [x(rank), y(point)]), colour, 2, truth ? [6, 3] : []);
    one.ranks.forEach((rank, point) => marker(pen, truth ? 2 : 0, x(rank), y(point), colour));
    if (one.ranks[lit] !== undefined) pen.text(whole(one.ranks[lit]!), Math.min(x(one.ranks[lit]!) + 8, box.x + box.w - 4), y(lit) - 6, { colour, weight: 600 });
    const words = `${quoted(one.word)} ${one.what}`, line = box.y - 9 - 16 * (all.length - 1 - i);
    marker(pen, truth ? 2 : 0, box.x + 8, line - 4, colour);
    pen.text(ellipsis(words, box.w - 20, font(theme, { weight: 500 }), (text) => pen.width(text, { weight: 500 })), box.x + 18, line, { colour, weight: 500 });
  });
}

/** The same in words. */
export const rank_words = (all: Followed[], points: string[]): string =>
  all.map(({ word, what, ranks }) => `${quoted(word)}, ${what}, has rank ${ranks.map((rank, i) => `${whole(rank)} at ${points[i]}`).join(", ")}.`).join(" ");
