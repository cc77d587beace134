// What the model expects after the chosen position, and what really follows.
import { font, Pen } from "../paint.ts";
import type { Panel, Sized } from "../panel.ts";
import type { Scene } from "../scene.ts";
import { ellipsis, fixed, quoted, whole } from "../text.ts";

const pitch = 24;

interface Choice { word: string; p: number; true: boolean }

export function choices({ view, look, tokens }: Pick<Scene, "view" | "look" | "tokens">): Choice[] {
  const words = view.arrays.top_words, probs = view.arrays.top_probs;
  if (!words || !probs) return [];
  const k = words.shape[1]!, truth = tokens[look.query + 1];
  return Array.from({ length: k }, (_, i) => {
    const word = view.labels.word![words.values[look.query * k + i]!]!;
    return { word, p: probs.values[look.query * k + i]!, true: word === truth };
  });
}

/** The token that really follows: its rank and loss. */
export function truth({ view, look, tokens }: Pick<Scene, "view" | "look" | "tokens">): string {
  const next = look.query + 1;
  if (next >= tokens.length) return "the text ends here";
  const loss = view.arrays.loss!.values[next]!, rank = view.arrays.rank?.values[next] ?? 0;
  return `${rank > 0 ? ` · rank ${whole(rank)}` : ""} · loss ${fixed(loss, 2)}`;
}

function mark(ctx: CanvasRenderingContext2D, rows: Sized, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, tokens, look, measure } = scene, name = 84, bar = Math.max(40, rows.width - name - 60);
  const list = choices(scene), mono = { mono: true, colour: theme.ink } as const;
  list.forEach(({ word, p, true: right }, i) => {
    const y = 8 + i * pitch, weight = i ? 400 : 700;
    pen.text(ellipsis(word, name - (right ? 24 : 8), font(theme, { ...mono, weight }), measure), 0, y + 10, { ...mono, weight });
    if (right) pen.text("✓", name - 10, y + 10, { align: "right", colour: theme.good, weight: 600 });
    pen.bar(name, y, bar, 11, p, theme.sequential.css[right ? 190 : 120]!);
    pen.text(fixed(p, 3), rows.width, y + 10, { align: "right", weight: i ? 400 : 600, colour: theme.ink });
  });
  const y = 8 + list.length * pitch + 14, next = tokens[look.query + 1];
  if (next === undefined) return pen.text(truth(scene), 0, y, { colour: theme.ink_3 });
  pen.text("truth ", 0, y);
  const at = pen.width("truth "), word = ellipsis(next, 100, font(theme, { ...mono, weight: 700 }), measure);
  pen.text(word, at, y, { ...mono, weight: 700 });
  pen.text(truth(scene), at + pen.width(word, { ...mono, weight: 700 }), y);
}

const after: Panel = {
  kind: "tokens", name: "after",
  slot: ({ view }) => (view.arrays.top_words ? "left" : null),
  heading: ({ tokens, look }) => ({ title: `After ${quoted(tokens[look.query] ?? "")}`, subtitle: `position ${look.query} · probability` }),
  layout: ({ view }, width) => ({ width, height: (view.arrays.top_words?.shape[1] ?? 0) * pitch + 32 }),
  draw() {},
  mark,
  hit: () => null,
  says(scene) {
    const list = choices(scene).map(({ word, p }) => `${quoted(word)} ${fixed(p, 3)}`).join(", ");
    return `After position ${scene.look.query} the model expects ${list}. Truth ${quoted(scene.tokens[scene.look.query + 1] ?? "none")}${truth(scene)}.`;
  },
};

export const panels: Panel[] = [after];
