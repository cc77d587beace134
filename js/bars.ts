// The likeliest next tokens as bars, with what really follows beneath them.
import { font, type Pen } from "./paint.ts";
import type { Scene } from "./scene.ts";
import { ellipsis, fixed, quoted, whole, type Measure } from "./text.ts";

/** `out`: sampling excludes the token. */
export interface Bar { word: string; p: number; true: boolean; out?: boolean }

export const pitch = 24;

export const truth_words = (rank: number, loss: number): string => `${rank > 0 ? ` · rank ${whole(rank)}` : ""} · loss ${fixed(loss, 2)}`;

/** Bars from 0 to 1, then the truth; `next` is undefined where the text ends. */
export function draw_bars(pen: Pen, width: number, list: Bar[], next: string | undefined, words: string, measure: Measure): void {
  const { theme } = pen, name = 84, bar = Math.max(40, width - name - 60), mono = { mono: true, colour: theme.ink } as const;
  list.forEach(({ word, p, true: right, out }, i) => {
    const y = 8 + i * pitch, weight = i ? 400 : 700, colour = out ? theme.ink_3 : theme.ink;
    pen.text(ellipsis(word, name - (right ? 24 : 8), font(theme, { ...mono, weight }), measure), 0, y + 10, { ...mono, weight, colour });
    if (right) pen.text("✓", name - 10, y + 10, { align: "right", colour: theme.good, weight: 600 });
    pen.bar(name, y, bar, 11, p, theme.sequential.css[right ? 190 : 120]!);
    if (out) pen.hatch((ctx) => ctx.rect(name, y, bar, 11), name, y, bar, 11, 5, theme.rule_2);
    pen.text(out ? "out" : fixed(p, 3), width, y + 10, { align: "right", weight: i ? 400 : 600, colour });
  });
  const y = 8 + list.length * pitch + 14;
  if (next === undefined) return pen.text(words, 0, y, { colour: theme.ink_3 });
  pen.text("truth ", 0, y);
  const at = pen.width("truth "), room = Math.max(24, Math.min(100, width - at - pen.width(words)));
  const word = ellipsis(next, room, font(theme, { ...mono, weight: 700 }), measure);
  pen.text(word, at, y, { ...mono, weight: 700 });
  pen.text(words, at + pen.width(word, { ...mono, weight: 700 }), y);
}

export function says_after({ look, tokens }: Pick<Scene, "look" | "tokens">, list: Bar[], truth: string): string {
  const said = list.map(({ word, p, out }) => `${quoted(word)} ${out ? "out" : fixed(p, 3)}`).join(", ");
  return `After position ${look.query} the model expects ${said}. Truth ${quoted(tokens[look.query + 1] ?? "none")}${truth}.`;
}
