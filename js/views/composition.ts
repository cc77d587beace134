// Heads as dots, layer by layer; a line where one reads what an earlier one writes more than random matrices would.
import { font, Pen } from "../paint.ts";
import type { Control, Hit, Panel, Sized } from "../panel.ts";
import type { Scene } from "../scene.ts";
import { fixed, head_name, whole, wrap } from "../text.ts";

interface Graph extends Sized {
  n_layer: number; n_head: number; x0: number; step_x: number; y0: number; step_y: number; edges: Edge[];
  /** Below the heads: the legend, and under it so many lines of words. */
  foot: number; lines: number; narrow: boolean;
}
export interface Edge { kind: 0 | 1 | 2; from: [number, number]; to: [number, number]; score: number }
/** The pairs of the asked kinds and heads, and of how many pairs of heads they are; those above the null, the strongest first; how many are clear of chance; the score of the thickest line. */
export interface Found { pairs: number; of_heads: number; above: Edge[]; clear: number; drawn: Edge[]; high: number; strongest: number; thickest: number }

const letters = ["Q", "K", "V"] as const, dashes = [[], [5, 3], [1.5, 3]], by_chance = 0.025, line = 18;

/** What there is to draw, of the kinds and heads that are asked for. */
export function found(scene: Pick<Scene, "detail" | "options" | "look">): Found {
  const { detail, options, look } = scene, { values, shape } = detail!.arrays.scores!, one = (name: string) => detail!.arrays[name]!.values[0]!;
  const [, n_layer, n_head] = shape as [number, number, number], above: Edge[] = [], per = n_layer * n_head, high = one("null_high"), strongest = one("null_strongest");
  const of_heads = new Set<number>();
  let pairs = 0, thickest = 2 * strongest; // whatever is asked for, so that a line keeps its width; and nothing near chance is thick
  values.forEach((score, at) => {
    if (score > thickest) thickest = score;
    const kind = Math.floor(at / (per * per)) as 0 | 1 | 2, from = Math.floor(at / per) % per, to = at % per;
    if (!Number.isFinite(score) || (options.kind !== "all" && options.kind !== letters[kind])) return;
    const edge: Edge = { kind, score, from: [Math.floor(from / n_head), from % n_head], to: [Math.floor(to / n_head), to % n_head] };
    if (options.own && ![edge.from, edge.to].some(([layer, head]) => layer === look.layer && head === look.head)) return;
    pairs++;
    of_heads.add(at % (per * per));
    if (score > high) above.push(edge);
  });
  above.sort((a, b) => b.score - a.score);
  return { pairs, of_heads: of_heads.size, above, clear: above.filter((edge) => edge.score > strongest).length, drawn: above.slice(0, Number(options.most)), high, strongest, thickest };
}

/** How many pairs are drawn and why no more, and how many chance would give. */
export function count_words({ pairs, of_heads, above, clear, drawn, high, strongest }: Found): string {
  const chance = by_chance * pairs, expected = chance < 10 ? fixed(chance, 1) : whole(Math.round(chance));
  const most = drawn.length < above.length ? ` Drawn are the strongest ${drawn.length}.` : "";
  const counted = pairs === of_heads ? `${whole(pairs)} pairs of heads` : `${whole(pairs)} (${whole(of_heads)} ${of_heads === 1 ? "pair" : "pairs"} of heads, each by Q, K and V)`;
  const first = `${whole(above.length)} of ${counted} are above ${fixed(high, 3)}, what 97.5 % of random matrices stay below: by chance about ${expected} would be.${most}`;
  const grey = drawn.filter((edge) => edge.score <= strongest).length;
  return !above.length ? first : `${first} ${clear ? `${whole(clear)} ${clear === 1 ? "is" : "are"}` : "None is"} above ${fixed(strongest, 3)}; in 95 of 100 models of random weights no pair is.`
    + `${grey ? ` ${grey === 1 ? "The grey line" : `The ${whole(grey)} grey lines`} may be chance.` : ""}`;
}

function layout(scene: Scene, width: number): Graph {
  const { n_layer = 1, n_head = 1 } = scene.pattern ?? {}, step_y = n_head > 8 ? 24 : 36, x0 = 44, narrow = width < 540;
  if (!scene.detail) return { width, height: 28, n_layer, n_head, x0, step_x: 0, y0: 0, step_y, edges: [], foot: 0, lines: 0, narrow };
  const step_x = n_layer > 1 ? Math.min(220, (width - x0 - 20) / (n_layer - 1)) : 0, foot = 44 + n_head * step_y + 8;
  const lines = wrap(count_words(found({ ...scene, options: { ...scene.options, own: false } })), width, font(scene.theme), scene.measure).length + 1; // `own` follows the mouse
  return { width, height: foot + (narrow ? 20 : 0) + 28 + line * (lines + 1), n_layer, n_head, x0, step_x, y0: 44, step_y, edges: [], foot, lines, narrow };
}

const place = (graph: Graph, [layer, head]: [number, number]): [number, number] => [graph.x0 + layer * graph.step_x, graph.y0 + head * graph.step_y];

function mark(ctx: CanvasRenderingContext2D, graph: Graph, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme), { theme } = scene;
  if (!scene.detail) return pen.text(scene.detail_words, 0, 18, { colour: theme.ink_3 });
  const all = found(scene), hovered = scene.spot as number | undefined;
  graph.edges = all.drawn;
  for (const [i, edge] of [...all.drawn.entries()].reverse()) curve(pen, graph, edge, i === hovered ? theme.ink : edge.score > all.strongest ? colour_of(theme.series, edge.kind) : theme.ink_3, thick(edge.score, all) + (i === hovered ? 1 : 0));
  draw_heads(pen, graph, scene);
  draw_legend(pen, graph, all);
  const below = graph.foot + (graph.narrow ? 20 : 0) + 28, edge = all.drawn[hovered ?? 0];
  if (edge) pen.text(words(edge, all), 0, below, { colour: theme.ink });
  wrap(count_words(all), graph.width, font(theme), scene.measure).slice(0, graph.lines).forEach((one, i) => pen.text(one, 0, below + line * (i + (edge ? 1 : 0))));
}

const colour_of = (series: string[], kind: 0 | 1 | 2): string => series[[0, 2, 3][kind]!]!;

/** The heads, named once for each row and column, where no line passes. */
function draw_heads(pen: Pen, graph: Graph, { theme, look }: Scene): void {
  for (let layer = 0; layer < graph.n_layer; layer++)
    for (let head = 0; head < graph.n_head; head++) {
      const [x, y] = place(graph, [layer, head]), lit = layer === look.layer && head === look.head;
      pen.dot(x, y, 7, theme.paper);
      pen.dot(x, y, lit ? 6 : 4, lit ? theme.accent : theme.ink_2);
    }
  const name = (lit: boolean) => ({ align: "center", weight: lit ? 700 : 400, colour: lit ? theme.accent : theme.ink_2 }) as const;
  for (let layer = 0; layer < graph.n_layer; layer++) pen.text(`L${layer}`, place(graph, [layer, 0])[0], 16, name(layer === look.layer));
  for (let head = 0; head < graph.n_head; head++) pen.text(`H${head}`, 14, place(graph, [0, head])[1] + 4, name(head === look.head));
}

/** Of the lines that are drawn: Q, K and V by colour, dash and letter; how a line's width says its score; what grey is. */
function draw_legend(pen: Pen, { foot, narrow }: Graph, all: Found): void {
  const { theme } = pen, { drawn, high, strongest } = all;
  if (!drawn.length) return;
  ([0, 1, 2] as const).filter((kind) => drawn.some((edge) => edge.kind === kind)).forEach((kind, i) => {
    const clear = drawn.some((edge) => edge.kind === kind && edge.score > strongest);
    pen.line(i * 56, foot - 4, i * 56 + 28, foot - 4, clear ? colour_of(theme.series, kind) : theme.ink_3, 2, dashes[kind]!);
    pen.text(letters[kind], i * 56 + 34, foot, { weight: 700, colour: theme.ink });
  });
  let x = narrow ? 0 : 184;
  const y = foot + (narrow ? 20 : 0), put = (said: string) => { pen.text(said, x, y); x += pen.width(said) + 6; };
  put("width: score");
  for (const score of [high, drawn[0]!.score]) {
    pen.line(x, y - 4, x + 28, y - 4, theme.ink_2, thick(score, all));
    x += 34;
    put(fixed(score, 3));
    x += 6;
  }
  if (drawn.some((edge) => edge.score <= strongest)) put("grey: may be chance");
}

/** The width of a line. */
const thick = (score: number, { high, thickest }: Found): number => 1 + (3 * (score - high)) / (thickest - high);

const words = ({ kind, from, to, score }: Edge, { high, strongest }: Found): string =>
  `${head_name(...from)} → ${head_name(...to)}: ${letters[kind]}-composition ${fixed(score, 3)} vs random ${fixed(high, 3)}${score > strongest ? "" : ", as chance may give"}`;

/** The two points that a line bends to: it leaves and arrives level, kinds lie side by side, and one that passes a layer goes below its heads. */
function bends(graph: Graph, { kind, from, to }: Edge): [number, number, number] {
  const [x0, y0] = place(graph, from), [x1, y1] = place(graph, to), passes = to[0] - from[0] > 1 && (from[1] + to[1]) % 2 === 0;
  const bend = graph.step_y * ((kind - 1) * 0.22 + (passes ? 0.55 : 0));
  return [(x0 + x1) / 2, y0 + bend, y1 + bend];
}

function curve(pen: Pen, graph: Graph, edge: Edge, colour: string, width: number): void {
  const { ctx } = pen, [x0, y0] = place(graph, edge.from), [x1, y1] = place(graph, edge.to), [middle, b0, b1] = bends(graph, edge);
  ctx.beginPath(); ctx.moveTo(x0, y0);
  ctx.bezierCurveTo(middle, b0, middle, b1, x1, y1);
  ctx.strokeStyle = colour; ctx.lineWidth = width; ctx.setLineDash(dashes[edge.kind]!);
  ctx.stroke(); ctx.setLineDash([]);
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
    const [x0, y0] = place(graph, edge.from), [x1, y1] = place(graph, edge.to), [middle, b0, b1] = bends(graph, edge);
    for (let t = 0.05; t < 1; t += 0.05) {
      const [a, b, c, d] = [(1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t * t, t ** 3];
      const far = Math.hypot(x - (a * x0 + (b + c) * middle + d * x1), y - (a * y0 + b * b0 + c * b1 + d * y1));
      if (far < near) { near = far; best = i; }
    }
  });
  return best < 0 ? null : { at: {}, spot: best };
}

const controls = (): Control[] => [
  { kind: "choice", name: "kind", label: "kind", choices: [["all", "Q, K and V"], ["Q", "Q: where it looks from"], ["K", "K: where it looks to"], ["V", "V: what it moves"]] },
  { kind: "range", name: "most", label: "at most", low: 5, high: 200, step: 5 },
  { kind: "toggle", name: "own", label: "of this head" },
];

const panel: Panel<Graph> = {
  kind: "composition", name: "composition", folded: true, half: ({ pattern }) => !pattern || pattern.n_layer <= 4, options: { kind: "all", most: 30, own: false }, controls,
  slot: ({ pattern }) => (pattern && pattern.n_layer > 1 ? "below" : null),
  heading: (scene) => ({ title: scene.view.title, subtitle: scene.view.subtitle }),
  layout, draw() {}, mark, hit,
  says(scene) {
    if (!scene.detail) return scene.detail_words;
    const all = found(scene), first = all.drawn.slice(0, 3).map((edge) => words(edge, all)).join("; ");
    return `${count_words(all)}${first ? ` Strongest: ${first}.` : ""}`;
  },
};

export const panels: Panel[] = [panel];
