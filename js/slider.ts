// The step slider in the header: one tick per recorded step, evenly spaced, so that each can be hit.
import { Pen } from "./paint.ts";
import type { Hit, Panel, Patch, Sized } from "./panel.ts";
import { nearest } from "./scene.ts";
import { whole } from "./text.ts";
import { walk_steps } from "./views/training.ts";

interface Track extends Sized { left: number; right: number; n: number }

const y = 16;
const x_of = (track: Track, index: number) => track.left + (track.n > 1 ? index / (track.n - 1) : 0) * (track.right - track.left);

export const slider: Panel<Track> = {
  kind: "", name: "step",
  slot: () => null,
  heading: () => ({ title: "step", subtitle: "" }),
  layout: ({ board }, width) => ({ width, height: 32, left: 10, right: width - 10, n: board.steps.length }),
  draw(ctx, track, { theme }) {
    const pen = new Pen(ctx, theme), every = Math.ceil(track.n / ((track.right - track.left) / 4));
    pen.line(track.left, y, track.right, y, theme.rule_2, 2);
    for (let i = 0; i < track.n; i += every) {
      const x = Math.round(x_of(track, i)) + 0.5;
      pen.line(x, y - 5, x, y + 5, theme.rule_2);
    }
  },
  mark(ctx, track, { theme, board, look }) {
    const pen = new Pen(ctx, theme), x = x_of(track, board.steps.indexOf(nearest(board.steps, look.step)));
    pen.line(track.left, y, x, y, theme.accent, 2);
    pen.dot(x, y, 8, theme.paper); pen.dot(x, y, 6, theme.accent);
  },
  hit: (): Hit => ({ at: {}, drag: "step" }),
  drag(track, _, x, _y, { board }): Patch {
    const index = Math.round(((x - track.left) / (track.right - track.left)) * (track.n - 1));
    return { selection: { step: board.steps[Math.max(0, Math.min(track.n - 1, index))]! } };
  },
  press: walk_steps,
  says: ({ look, board }) => `Step ${whole(look.step)} of ${whole(board.steps.at(-1) ?? 0)}.`,
};
