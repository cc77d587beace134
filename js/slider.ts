// The step slider in the header: one tick per recorded step, evenly spaced, so that each can be hit.
import { Pen } from "./paint.ts";
import type { Hit, Panel, Patch, Sized } from "./panel.ts";
import type { RawBoard } from "./payload.ts";
import { nearest, type Scene } from "./scene.ts";
import { whole } from "./text.ts";
import { walk_steps } from "./views/training.ts";

interface Track extends Sized { left: number; right: number; n: number }

/** What stands before the slider, or in its place where there is no choice of steps. */
export function step_words({ name, steps }: Pick<RawBoard, "name" | "steps">): string {
  if (steps.length > 1) return "step";
  if (steps.length) return `step ${whole(steps[0]!)}, the only one recorded`;
  return name === "watch" ? "no step recorded yet" : "one step, no training record";
}

const spot_of = ({ board }: Pick<Scene, "board">, step: number): number => board.steps.indexOf(nearest(board.steps, step));

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
  mark(ctx, track, scene) {
    const { theme, look } = scene, pen = new Pen(ctx, theme), x = x_of(track, spot_of(scene, look.step)), { since } = scene.options;
    pen.line(track.left, y, x, y, theme.accent, 2);
    pen.dot(x, y, 8, theme.paper); pen.dot(x, y, 6, theme.accent);
    if (since == null) return;
    const other = x_of(track, spot_of(scene, since)); // the handle of the step before: a ring
    pen.dot(other, y, 8, theme.paper); pen.dot(other, y, 6, theme.ink_2); pen.dot(other, y, 3.5, theme.paper);
  },
  hit(track, x, _y, scene): Hit {
    const { since } = scene.options, at = (step: number) => Math.abs(x_of(track, spot_of(scene, step)) - x);
    return { at: {}, drag: since != null && at(since) < 10 && at(since) < at(scene.look.step) ? "since" : "step" };
  },
  drag(track, hit, x, _y, { board }): Patch {
    const index = Math.round(((x - track.left) / (track.right - track.left)) * (track.n - 1)), step = board.steps[Math.max(0, Math.min(track.n - 1, index))]!;
    return hit.drag === "since" ? { options: { since: step } } : { selection: { step } };
  },
  press: walk_steps,
  says: ({ look, board, options }) => `Step ${whole(look.step)} of ${whole(board.steps.at(-1) ?? 0)}${options.since == null ? "" : `, compared with step ${whole(options.since)}`}.`,
};
