// Arrangement, selection, hits and the line to the kernel: all without a browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { arrange, bands } from "../arrange.ts";
import { Details } from "../details.ts";
import { Link } from "../link.ts";
import type { Panel } from "../panel.ts";
import type { RawBoard, View } from "../payload.ts";
import { follow, look_at, nearest, pattern_of, tokens_of, type Scene } from "../scene.ts";
import { panels as heads } from "../views/attention.ts";
import { panels as head } from "../views/head.ts";
import { panels as ruler } from "../views/ruler.ts";
import { panels as strip } from "../views/tokens.ts";
import { panels as curve, log_step, smooth, step_of_log, walk_steps } from "../views/training.ts";
import { slider } from "../slider.ts";
import { precise } from "../text.ts";

const nothing = { step: null, layer: null, head: null, query: null, key: null };

function scene_of(n: number, n_layer: number, n_head: number, width: number, kind: string): Scene {
  const cells = (n * (n + 1)) / 2, tokens = Array.from({ length: n }, (_, i) => `t${i % 7}`);
  const base = { title: "", subtitle: "", units: {}, checks: [] };
  const values = new Uint8Array(n_layer * n_head * cells).map((_, i) => (i * 37) % 256);
  const steps = new Int32Array([0, 10, 100, 1000]);
  const views: View[] = [
    { ...base, kind: "attention", labels: { token: tokens }, range: { pattern: [0, 1] }, arrays: { pattern: { shape: [n_layer, n_head, cells], axes: [], values } } },
    { ...base, kind: "tokens", labels: { token: tokens }, range: { loss: [0, 6] }, arrays: { loss: { shape: [n], axes: [], values: new Float32Array(n).fill(2) } } },
    { ...base, kind: "training", labels: { series: ["train"] }, range: {}, arrays: { steps_0: { shape: [4], axes: [], values: steps }, values_0: { shape: [4], axes: [], values: new Float32Array([4, 3, 2, 1]) } } },
  ];
  const board = { steps: [...steps] } as unknown as RawBoard, place = arrange(width, n_layer, n_head, n);
  return { board, views, view: views.find((view) => view.kind === kind)!, pattern: pattern_of(views), tokens: tokens_of(views), selection: nothing, hover: {},
           look: look_at(nothing, {}, {}, views, 1000), corner: { query: 0, key: 0 }, place, theme: { sans: "s", mono: "m" } as Scene["theme"],
           measure: (text) => 7 * text.length, detail: null, detail_words: "", options: {}, spot: undefined, options_of: () => ({}), live: true };
}

/** Hits of every fourth pixel of a panel. */
function hits(panel: Panel, scene: Scene, width: number): Record<string, number>[] {
  const layout = panel.layout(scene, width), found = [];
  for (let y = 0; y < layout.height; y += 4) for (let x = 0; x < width; x += 4) {
    const hit = panel.hit(layout, x, y, scene);
    if (hit) found.push(hit.at as Record<string, number>);
  }
  return found;
}

test("columns follow the width; nothing is wider than its column", () => {
  assert.deepEqual([arrange(1400, 4, 4, 18).columns, arrange(1000, 4, 4, 18).columns, arrange(600, 4, 4, 18).columns], [3, 2, 1]);
  assert.ok(arrange(1400, 4, 4, 48).large && arrange(1400, 6, 6, 8).large && !arrange(1400, 4, 4, 18).large);
  for (let width = 320; width < 2000; width += 20)
    for (const [n_layer, n_head, n] of [[3, 3, 6], [4, 4, 18], [4, 4, 40], [4, 4, 64], [12, 12, 8], [12, 12, 500]] as const) {
      const place = arrange(width, n_layer, n_head, n), { widths, columns } = place;
      const used = columns === 3 ? widths.left + widths.centre + widths.right + 64 : columns === 2 ? widths.left + widths.right + 32 : widths.right;
      assert.ok(used <= place.width + 1, `${width} ${n}: ${used}`);
      assert.ok(place.window >= Math.min(n, 8), `${width} ${n}: window ${place.window}`);
      const scene = scene_of(n, n_layer, n_head, width, "attention"), square = head[0]!.layout(scene, widths.right);
      assert.ok(square.x + square.n * square.cell + square.bars <= widths.right + 1, `${width} ${n}: ${JSON.stringify(square)}`);
      const grid = heads[0]!.layout(scene, widths.left);
      assert.ok(grid.left + (n_head - 1) * grid.pitch_x + grid.tile <= widths.left + 1, `${width} ${n}: grid`);
    }
});

test("every head and every visible cell can be pointed at, and nothing above the diagonal", () => {
  const scene = scene_of(18, 4, 4, 1400, "attention");
  assert.equal(new Set(hits(heads[0]!, scene, scene.place.widths.centre).map((at) => `${at.layer} ${at.head}`)).size, 16);
  const cells = hits(head[0]!, scene, scene.place.widths.right).filter((at) => at.query !== undefined && at.key !== undefined);
  assert.equal(new Set(cells.map((at) => `${at.query} ${at.key}`)).size, 171);
  assert.ok(cells.every((at) => at.key! <= at.query!));
});

test("every token of the strip and of a long ruler can be pointed at", () => {
  const short = scene_of(18, 4, 4, 1400, "tokens");
  assert.equal(new Set(hits(strip[0]!, short, 264).map((at) => at.query)).size, 18);
  const long = scene_of(300, 4, 4, 1400, "tokens");
  assert.equal(ruler[0]!.slot(long), "top");
  assert.equal(new Set(hits(ruler[0]!, long, 1352).map((at) => at.query)).size, 300);
});

test("the curve and the slider choose recorded steps only", () => {
  const scene = scene_of(18, 4, 4, 1400, "training"), plot = curve[0]!.layout(scene, 1352), track = slider.layout(scene, 212);
  const steps = new Set<number>(), slid = new Set<number>();
  for (let x = -20; x < 1400; x += 3) steps.add(curve[0]!.drag!(plot, { at: {} }, x, 100, scene).selection!.step!);
  for (let x = -20; x < 240; x += 3) slid.add(slider.drag!(track, { at: {} }, x, 10, scene).selection!.step!);
  assert.deepEqual([...steps], [0, 10, 100, 1000]);
  assert.deepEqual([...slid], [0, 10, 100, 1000]);
  assert.equal(walk_steps("ArrowLeft", scene)!.selection!.step, 100);
  assert.equal(walk_steps("Home", scene)!.selection!.step, 0);
  assert.equal(walk_steps("x", scene), null);
  assert.equal(log_step(0), 0);
  assert.ok(Math.abs(step_of_log(log_step(700)) - 700) < 1e-9);
});

test("a running mean keeps NaN visible and does not spread it", () => {
  assert.deepEqual(smooth([1, NaN, 3, 4, 5], 1), [1, NaN, 3.5, 4, 5]);
});

test("hover comes before the choice, and the key defaults to the strongest", () => {
  const { views } = scene_of(8, 2, 2, 1400, "attention"), pattern = pattern_of(views)!;
  const chosen = { step: 10, layer: 1, head: 0, query: 3, key: 1 };
  assert.deepEqual(look_at(chosen, {}, {}, views, 0), { step: 10, layer: 1, head: 0, query: 3, key: 1 });
  assert.deepEqual(look_at(chosen, { layer: 0, head: 1 }, {}, views, 0), { step: 10, layer: 0, head: 1, query: 3, key: 1 });
  assert.equal(look_at(chosen, { query: 5 }, {}, views, 0).key, pattern.strongest(1, 0, 5));
  assert.deepEqual(look_at({ ...chosen, query: 99, layer: 9 }, {}, {}, views, 0), { step: 10, layer: 0, head: 0, query: 7, key: 1 });
});

test("the window follows the choice and stays inside the text", () => {
  assert.deepEqual(follow({ query: 0, key: 0 }, { query: 254, key: 55 }, 32, 400), { query: 238, key: 39 });
  assert.deepEqual(follow({ query: 238, key: 39 }, { query: 240, key: 40 }, 32, 400), { query: 238, key: 39 });
  assert.deepEqual(follow({ query: 0, key: 0 }, { query: 399, key: 0 }, 32, 400), { query: 368, key: 0 });
  assert.equal(nearest([0, 10, 100], 40), 10);
});

test("one request at a time, the latest wins, a silent kernel is not waited for", () => {
  let now = 0;
  const sent: any[] = [], link = new Link((message) => sent.push(message), () => now);
  const ask = (step: number) => link.ask({ ask: "frame", step, text: "" });
  ask(1); ask(2); ask(3);
  assert.deepEqual(sent.map((one) => one.step), [1]);
  assert.deepEqual(link.answered({ id: sent[0].id }), { ask: "frame", step: 1, text: "" });
  assert.equal(link.answered({ id: "another picture" }), null);
  link.painted();
  assert.deepEqual(sent.slice(1).map((one) => one.ack ?? one.step), [sent[0].id, 3]); // 2 was overtaken
  ask(2); ask(3); // back to what is under way: nothing more is wanted
  assert.ok(!link.awaits({ ask: "frame", step: 2, text: "" }));
  link.answered({ id: sent[2].id });
  link.painted();
  assert.deepEqual(sent.slice(3).map((one) => one.ack ?? one.step), [sent[2].id]);
  ask(3);
  now = 2500;
  ask(4);
  assert.equal(sent.at(-1).step, 4);
  link.stop();
});

test("a kernel slower than our patience comes to show something: late answers count, in their order", () => {
  let now = 0;
  const sent: any[] = [], link = new Link((message) => sent.push(message), () => now);
  for (const step of [1, 2, 3]) { link.ask({ ask: "frame", step, text: "" }); now += 2500; }
  assert.deepEqual(sent.map((one) => one.step), [1, 2, 3]);
  assert.equal(link.answered({ id: sent[1].id })!.step, 2);
  assert.equal(link.answered({ id: sent[0].id }), null); // older than what is shown
  link.painted();
  assert.ok(link.busy); // the last is still under way
  assert.equal(link.answered({ id: sent[2].id })!.step, 3);
  link.painted();
  assert.ok(!link.busy);
});

test("a detail that another overtook is asked for again when the reader is back", () => {
  const sent: any[] = [], details = new Details(true, (message) => sent.push(message)), view = { kind: "attention", detail_axes: ["head"] } as unknown as View;
  const look = (head: number) => details.find(view, { head }, null, "");
  for (const head of [0, 1, 2]) look(head);
  const answer = () => details.receive({ id: sent.findLast((one) => one.ask).id, error: "none" }, []);
  answer(); answer();
  assert.deepEqual(sent.filter((one) => one.ask).map((one) => one.at.head), [0, 2]);
  look(1); look(1);
  assert.deepEqual(sent.filter((one) => one.ask).map((one) => one.at.head), [0, 2, 1]);
  details.stop();
});

test("panels that need half the width fill two columns, and one that needs all of it stands alone", () => {
  const tall: Record<string, number> = { lens: 300, lines: 700, writes: 300, full: 100, tree: 100 };
  const found = bands(["lens", "lines", "writes", "full", "tree"], (one) => one !== "full", (one) => tall[one]!);
  assert.deepEqual(found, [[["lens", "writes"], ["lines"]], "full", "tree"]); // the last has nothing beside it
});

test("a small number keeps digits that tell it from zero", () => {
  assert.deepEqual([0.0021, -0.0034, 0.5, 12.345, 0].map((one) => precise(one)), ["0.0021", "\u22120.0034", "0.50", "12.35", "0"]);
});
