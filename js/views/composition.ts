// Heads as dots, layer by layer; a line where one reads what an earlier one writes more than random matrices would.
import { Pen } from "../paint.ts";
import type { Control, Hit, Panel, Sized } from "../panel.ts";
import type { Scene } from "../scene.ts";
import { fixed, head_name } from "../text.ts";

interface Graph extends Sized { n_layer: number; n_head: number; x0: number; step_x: number; y0: number; step_y: number; edges: Edge[] }
export interface Edge { kind: 0 | 1 | 2; from: [number, number]; to: [number, number]; score: number }

const letters = ["Q", "K", "V"] as const, dashes = [[], [5, 3], [1.5, 3]];

/** The strongest pairs above the null, of the kinds and heads that are asked for. */
export function strongest(scene: Pick<Scene, "detail" | "options" | "look">): Edge[] {
  const { detail, options, look } = scene, { values, shape } = detail!.arrays.scores!, high = detail!.arrays.null_high!.values[0]!;
  const [, n_layer, n_head] = shape as [number, number, number], found: Edge[] = [], per = n_layer * n_head;
  values.forEach((score, at) => {
    if (!(score > high)) return;
    const kind = Math.floor(at / (per * per)) as 0 | 1 | 2, from = Math.floor(at / per) % per, to = at % per;
    if (options.kind !== "all" && options.kind !== letters[kind]) return;
    const edge: Edge = { kind, score, from: [Math.floor(from / n_head), from % n_head], to: [Math.floor(to / n_head), to % n_head] };
    const own = [edge.from, edge.to].some(([layer, head]) => layer === look.layer && head === look.head);
    if (!options.own || own) found.push(edge);
  });
  return found.sort((a, b) => b.score - a.score).slice(0, Number(options.most));
}

function layout(scene: Scene, width: number): Graph {
  const { n_layer = 1, n_head = 1 } = scene.pattern ?? {}, step_y = n_head > 8 ? 24 : 36, x0 = 24;
  if (!scene.detail) return { width, height: 28, n_layer, n_head, x0, step_x: 0, y0: 0, step_y, edges: [] };
  const step_x = n_layer > 1 ? Math.min(220, (width - 96) / (n_layer - 1)) : 0;
  return { width, height: 36 + n_head * step_y + (width < 620 ? 60 : 40), n_layer, n_head, x0, step_x, y0: 44, step_y, edges: [] };
}

const place = (graph: Graph, [layer, head]: [number, number]): [number, number] => [graph.x0 + layer * graph.step_x, graph.y0 + head * graph.step_y];

function mark(ctx: CanvasRenderingContext2D, graph: Graph, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme, look } = scene;
  if (!scene.detail) return pen.text(scene.detail_words, 0, 18, { colour: theme.ink_3 });
  graph.edges = strongest(scene);
  const high = scene.detail.arrays.null_high!.values[0]!, colours = theme.series;
  const hovered = scene.spot as number | undefined;
  for (const [i, edge] of [...graph.edges.entries()].reverse()) curve(pen, graph, edge, colours[[0, 2, 3][edge.kind]!]!, high, i === hovered);
  for (let layer = 0; layer < graph.n_layer; layer++) {
    pen.text(`L${layer}`, place(graph, [layer, 0])[0], 16, { align: "center", weight: 600, colour: theme.ink });
    for (let head = 0; head < graph.n_head; head++) {
      const [x, y] = place(graph, [layer, head]), lit = layer === look.layer && head === look.head;
      pen.dot(x, y, 7, theme.paper);
      pen.dot(x, y, lit ? 6 : 4, lit ? theme.accent : theme.ink_2);
      pen.fill(x + 8, y - 7, pen.width(`H${head}`, { weight: 700 }) + 3, 14, theme.paper, 3);
      pen.text(`H${head}`, x + 9, y + 4, { weight: lit ? 700 : 400, colour: lit ? theme.accent : theme.ink_2 });
    }
  }
  const narrow = graph.width < 620, y = graph.height - (narrow ? 32 : 12);
  let x = 0;
  for (const kind of [0, 1, 2] as const) {
    pen.line(x, y - 4, x + 28, y - 4, colours[[0, 2, 3][kind]!]!, 2, dashes[kind]!);
    pen.text(letters[kind], x + 34, y, { weight: 700, colour: theme.ink });
    x += 56;
  }
  const edge = graph.edges[hovered ?? 0];
  pen.text(edge ? words(edge, high) : `No pair is above ${fixed(high, 3)}, what 97.5 % of random matrices stay below.`, narrow ? 0 : x + 8, narrow ? y + 20 : y, { colour: theme.ink });
}

const words = ({ kind, from, to, score }: Edge, high: number): string =>
  `${head_name(...from)} → ${head_name(...to)}: ${letters[kind]}-composition ${fixed(score, 3)} vs random ${fixed(high, 3)}`;

function curve(pen: Pen, graph: Graph, edge: Edge, colour: string, high: number, lit: boolean): void {
  const { ctx } = pen, [x0, y0] = place(graph, edge.from), [x1, y1] = place(graph, edge.to), bend = (edge.kind - 1) * 10;
  ctx.beginPath(); ctx.moveTo(x0, y0);
  ctx.bezierCurveTo(x0 + (x1 - x0) / 2, y0 + bend, x0 + (x1 - x0) / 2, y1 + bend, x1, y1);
  ctx.strokeStyle = lit ? pen.theme.ink : colour; ctx.lineWidth = lit ? 3 : 1 + Math.min(3, 6 * (edge.score - high)); ctx.setLineDash(dashes[edge.kind]!); ctx.globalAlpha = lit ? 1 : 0.75;
  ctx.stroke(); ctx.setLineDash([]); ctx.globalAlpha = 1;
}

/** A head, or the line whose curve passes nearest. */
function hit(graph: Graph, x: number, y: number): Hit | null {
  for (let layer = 0; layer < graph.n_layer; layer++)
    for (let head = 0; head < graph.n_head; head++) {
      const [cx, cy] = place(graph, [layer, head]);
      if (graph.step_x && Math.hypot(x - cx, y - cy) < 12) return { at: { layer, head } };
    }
  let best = -1, near = 8;
  graph.edges.forEach((edge, i) => {
    const [x0, y0] = place(graph, edge.from), [x1, y1] = place(graph, edge.to), middle = x0 + (x1 - x0) / 2, bend = (edge.kind - 1) * 10;
    for (let t = 0.05; t < 1; t += 0.05) {
      const [a, b, c, d] = [(1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t * t, t ** 3];
      const far = Math.hypot(x - (a * x0 + (b + c) * middle + d * x1), y - (a * y0 + b * (y0 + bend) + c * (y1 + bend) + d * y1));
      if (far < near) { near = far; best = i; }
    }
  });
  return best < 0 ? null : { at: {}, spot: best };
}

const controls = (): Control[] => [
  { kind: "choice", name: "kind", label: "kind", choices: [["all", "Q, K and V"], ["Q", "Q: where it looks from"], ["K", "K: where it looks to"], ["V", "V: what it moves"]] },
  { kind: "range", name: "most", label: "strongest", low: 5, high: 200, step: 5 },
  { kind: "toggle", name: "own", label: "of this head" },
];

const panel: Panel<Graph> = {
  kind: "composition", name: "composition", folded: true, half: ({ pattern }) => !pattern || pattern.n_layer <= 4, options: { kind: "all", most: 30, own: false }, controls,
  slot: ({ pattern }) => (pattern && pattern.n_layer > 1 ? "below" : null),
  heading: (scene) => ({ title: scene.view.title, subtitle: scene.view.subtitle }),
  layout, draw() {}, mark, hit,
  says(scene) {
    if (!scene.detail) return scene.detail_words;
    const high = scene.detail.arrays.null_high!.values[0]!, found = strongest(scene);
    return found.length ? `Strongest: ${found.slice(0, 3).map((edge) => words(edge, high)).join("; ")}.` : "No pair of heads is above what random matrices give.";
  },
};

export const panels: Panel[] = [panel];
