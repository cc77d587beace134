// The looked-at head as a film strip: one picture for each recorded step; a click goes to the step.
import { Pen } from "../paint.ts";
import { spread } from "../pattern.ts";
import type { Hit, Panel, Sized } from "../panel.ts";
import type { View } from "../payload.ts";
import { nearest, type Scene } from "../scene.ts";
import { detail_to_show } from "../stale.ts";
import { head_name, whole } from "../text.ts";

interface Strip extends Sized { columns: number; side: number } // 8 px at the right are for the outline

const gap = 16, line = 22, legend = 44;
const steps_of = ({ view }: Pick<Scene, "view">): number[] => view.content!.steps as number[];

/** A page without the pictures of this head, or a kernel that could not make them: there is only a sentence. */
const is_missing = (scene: Scene): boolean => !detail_to_show(scene).shown && !scene.detail_words.startsWith("asking");

function layout(scene: Scene, width: number): Strip {
  if (is_missing(scene)) return { width, height: 28, columns: 1, side: 0 };
  const n = steps_of(scene).length, least = width < 500 ? 56 : 72, most = Math.max(1, Math.floor((width + gap) / (least + gap)));
  const rows = Math.ceil(n / most), columns = Math.ceil(n / rows), side = Math.min(112, Math.floor((width - 8 - gap * (columns - 1)) / columns));
  return { width, height: rows * (side + line + 8) + legend, columns, side };
}

const at = ({ columns, side }: Strip, i: number): [number, number] => [(i % columns) * (side + gap) + 0.5, Math.floor(i / columns) * (side + line + 8) + 4];

function draw(ctx: CanvasRenderingContext2D, strip: Strip, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme } = scene, { shown, stale } = detail_to_show(scene);
  if (!shown) return pen.text(`The pictures of ${head_name(scene.look.layer, scene.look.head)}: ${scene.detail_words}.`, 0, 18, { colour: theme.ink_3 });
  const { values, shape } = shown.arrays.tiles!, broken = shown.arrays.broken!.values, [, tall] = shape as [number, number, number], scale = ctx.getTransform().a, size = Math.round(strip.side * scale);
  const here = stale ? 0.55 : 1;
  steps_of(scene).forEach((_, i) => {
    const [x, y] = at(strip, i), own = values.subarray(i * tall * tall, (i + 1) * tall * tall), bytes = spread(tall, size, (row, column) => own[row * tall + column]!, (row) => row + 1);
    const image = new ImageData(size, size), colours = new Uint32Array(image.data.buffer);
    for (let row = 0; row < size; row++) {
      const cell = Math.floor((row * tall) / size), end = broken[i * tall + cell] ? 0 : Math.min(size, Math.ceil(((cell + 1) * size) / tall)); // the triangle in whole cells
      for (let column = 0; column < end; column++) colours[row * size + column] = theme.sequential.rgba[bytes[row * size + column]!]!;
    }
    ctx.putImageData(image, Math.round(x * scale), Math.round(y * scale));
    if (is_broken(shown, i)) pen.strange(NaN, Math.floor(x + strip.side) - 16, y, 16);
    pen.line(x, y, x, y + strip.side, theme.rule_2); pen.line(x, y + strip.side + 0.5, x + strip.side, y + strip.side + 0.5, theme.rule_2);
  });
  if (here < 1) { ctx.globalAlpha = 1 - here; pen.fill(0, 0, strip.width, strip.height - legend, theme.paper); ctx.globalAlpha = 1; }
  const y = strip.height - legend + 8;
  pen.legend(0, y, 160, theme.sequential, ["0", ".25", "1"]);
  const any = steps_of(scene).some((_, i) => is_broken(shown, i));
  pen.text(`attention, colour by √p · query ↓, key →${any ? " · ×: not finite, such rows are left empty" : ""}`, 180, y + 9);
}

/** Whether a row of the i-th picture holds a NaN or infinity. */
export function is_broken({ arrays }: Pick<View, "arrays">, i: number): boolean {
  const { values, shape } = arrays.broken!, tall = shape[1]!;
  return Array.from({ length: tall }, (_, row) => values[i * tall + row]!).some(Boolean);
}

const lit = (scene: Scene): number => { const steps = steps_of(scene); return steps.indexOf(nearest(steps, scene.look.step)); };

function mark(ctx: CanvasRenderingContext2D, strip: Strip, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme } = scene, now = lit(scene);
  if (is_missing(scene)) return; // no pictures, no steps below them
  steps_of(scene).forEach((step, i) => {
    const [x, y] = at(strip, i), here = i === now;
    if (here) pen.stroke(x - 3.5, y - 3.5, strip.side + 7, strip.side + 7, theme.accent, 2, 6);
    pen.text(whole(step), x, y + strip.side + 18, { weight: here ? 600 : 400, colour: here ? theme.accent : theme.ink_2 });
  });
}

function place(strip: Strip, x: number, y: number, scene: Scene): number | null {
  if (is_missing(scene)) return null;
  const column = Math.floor(x / (strip.side + gap)), row = Math.floor(y / (strip.side + line + 8)), i = row * strip.columns + column;
  return column < strip.columns && i < steps_of(scene).length && y < strip.height - legend ? i : null;
}

/** How much a head's pictures change from one step to the next: where most happened, for the sentence. */
export function liveliest(tiles: { shape: number[]; values: ArrayLike<number> }): number {
  const [n, tall, wide] = tiles.shape as [number, number, number], size = tall * wide;
  let best = 0, most = -1;
  for (let i = 1; i < n; i++) {
    let change = 0;
    for (let j = 0; j < size; j++) change += Math.abs(tiles.values[i * size + j]! - tiles.values[(i - 1) * size + j]!);
    if (change > most) { most = change; best = i; }
  }
  return best;
}

const changed = (scene: Scene, shown: View): string => {
  const steps = steps_of(scene), i = liveliest(shown.arrays.tiles!);
  return steps.length > 1 ? ` It changes most between steps ${whole(steps[i - 1]!)} and ${whole(steps[i]!)} of these.` : "";
};

const film: Panel<Strip> = {
  kind: "film", name: "film", folded: true,
  slot: () => "below",
  heading: (scene) => ({ title: `${head_name(scene.look.layer, scene.look.head)} through training`, subtitle: scene.view.subtitle }),
  layout, draw, mark,
  by_detail: true,
  stale: ({ look }) => `${look.layer} ${look.head}`,
  hit: (strip, x, y, scene): Hit | null => (place(strip, x, y, scene) === null ? null : { at: {}, drag: "tile" }),
  drag(strip, _, x, y, scene) { const i = place(strip, x, y, scene); return i === null ? {} : { selection: { step: steps_of(scene)[i]! } }; },
  press(key, scene) {
    const steps = steps_of(scene), now = lit(scene), to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: steps.length - 1 }[key];
    return to === undefined ? null : { selection: { step: steps[Math.max(0, Math.min(steps.length - 1, to))]! } };
  },
  says(scene) {
    const { shown } = detail_to_show(scene), { look } = scene;
    if (is_missing(scene)) return `The pictures of ${head_name(look.layer, look.head)}: ${scene.detail_words}.`;
    return `${head_name(look.layer, look.head)} at ${steps_of(scene).length} steps; step ${whole(steps_of(scene)[lit(scene)]!)} is shown.${shown ? changed(scene, shown) : ""}`;
  },
};

export const panels: Panel[] = [film];
