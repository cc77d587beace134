// A training under way: its state and numbers, what recording costs, what is wrong, and the buttons that ask for something.
import { font, Pen } from "../paint.ts";
import type { Control, Panel, Sized } from "../panel.ts";
import type { Scene } from "../scene.ts";
import { whole, wrap } from "../text.ts";

interface Row extends Sized { columns: number; pitch: number; trouble: string[] }
interface Words { state: string; readouts: [string, string, string][]; pace: string; cost: string; trouble: string; disabled: Record<string, string>; rate: string }

const words_of = ({ view }: Scene): Words => view.content as Words;
const row = 52, first = 36; // the readouts begin under the state

/** The reader is not at the newest recorded step. */
const behind = ({ board, look }: Scene): boolean => board.steps.length > 0 && look.step < board.steps.at(-1)!;

const readouts_of = (scene: Scene): [string, string, string][] =>
  [...words_of(scene).readouts, ...(scene.board.steps.length ? [["you look at step", whole(scene.look.step), ""] as [string, string, string]] : [])];

function layout(scene: Scene, width: number): Row {
  const count = readouts_of(scene).length, columns = Math.max(1, Math.min(count, Math.floor(width / 132)));
  const { trouble } = words_of(scene), lines = trouble ? wrap(`✕ ${trouble}`, width - 16, font(scene.theme, { size: 13, weight: 600 }), scene.measure) : [];
  return { width, columns, pitch: Math.min(176, width / columns), trouble: lines, height: first + Math.ceil(count / columns) * row + (lines.length ? lines.length * 20 + 8 : 0) };
}

const colours: Record<string, number> = { "train loss": 0, validation: 1 };

/** A page, or a board whose kernel is gone, does not know how the training went on: it says when it was saved. */
function standing(scene: Scene): { state: string; pace: string } {
  const { state, pace, readouts } = words_of(scene);
  if (scene.live || !["training", "paused"].includes(state)) return { state, pace };
  return { state: `saved at step ${whole(Number(readouts[0]![1]))}`, pace: state === "paused" ? "while it was paused" : "while it trained" };
}

function mark(ctx: CanvasRenderingContext2D, at: Row, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme } = scene, { cost } = words_of(scene), { state, pace } = standing(scene), live = state === "training";
  if (live) pen.dot(6, 12, 5, theme.good); // in the other states a ring: colour alone says nothing
  else { ctx.beginPath(); ctx.arc(6, 12, 4.5, 0, 2 * Math.PI); ctx.strokeStyle = theme.ink_3; ctx.lineWidth = 1.5; ctx.stroke(); }
  pen.text(state, 18, 16, { size: 13, weight: 600, colour: theme.ink });
  const after = 18 + pen.width(state, { size: 13, weight: 600 }) + 12;
  pen.text(pace, after, 16);
  if (pen.width(cost) + after + pen.width(pace) + 24 < at.width) pen.text(cost, at.width, 16, { align: "right" });
  readouts_of(scene).forEach(([name, value, unit], i) => {
    const x = (i % at.columns) * at.pitch, y = first + Math.floor(i / at.columns) * row;
    const colour = name === "you look at step" ? theme.accent : name in colours ? theme.series[colours[name]!]! : theme.ink;
    const number = /^\d+$/.test(value) ? whole(Number(value)) : value;
    pen.text(name, x, y + 12);
    pen.text(number, x, y + 34, { size: 20, weight: 600, colour });
    pen.text(unit, x + pen.width(number, { size: 20, weight: 600 }) + 5, y + 34);
  });
  const top = at.height - at.trouble.length * 20;
  if (at.trouble.length) pen.fill(0, top - 2, 3, at.trouble.length * 20, theme.ink);
  at.trouble.forEach((line, i) => pen.text(line, 12, top + 13 + 20 * i, { size: 13, weight: 600, colour: theme.ink }));
}

function controls(scene: Scene): Control[] {
  const { state, disabled } = words_of(scene), paused = state === "paused", same = new Set(Object.values(disabled)).size === 1 && Object.keys(disabled).length > 1;
  if (!scene.live) return [];
  const why = (name: string) => (disabled[name] ? { disabled: same && name !== "rate" ? " " : disabled[name] } : {}); // one reason for all stands once
  const button = (name: string, label: string, act: string, value?: unknown): Control => ({ kind: "button", name, label, act: { name: act, value }, ...why(act) });
  return [
    { ...button("pause", paused ? "▶ Resume" : "❚❚ Pause", "pause"), primary: true } as Control,
    { ...button("tens", "Step ×10", "step", 10), ...(disabled.step ? { disabled: " " } : {}) } as Control, button("step", "Step", "step", 1), button("stop", "■ Stop", "stop"), button("record", "Record now", "record"),
    { kind: "search", name: "rate", label: "learning rate", hint: "0.001 ⏎", ...why("rate") },
    ...(behind(scene) ? [button("follow", "Follow live ⇥", "follow")] : []),
  ];
}

export const panels: Panel<Row>[] = [{
  kind: "controls", name: "controls", options: { rate: "" },
  slot: () => "top",
  heading: ({ view }) => ({ title: view.title, subtitle: view.subtitle }),
  controls, layout, mark,
  draw() {},
  hit: () => null,
  press: (key, scene) => (key === "Enter" && scene.live && !words_of(scene).disabled.rate ? { act: { name: "rate", value: String(scene.options.rate ?? "") } } : null),
  says(scene) {
    const { cost, trouble } = words_of(scene), { state, pace } = standing(scene), numbers = readouts_of(scene).map((one) => one.join(" ").trim()).join(", ");
    return [trouble, `${state}${pace && `, ${pace}`}`, numbers, cost].filter(Boolean).join(". ") + ".";
  },
}];
