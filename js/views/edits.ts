// Edited beside original: loss and next token of the text, and the row of a head to drag.
import { font, Pen } from "../paint.ts";
import type { Control, Hit, Panel, Patch, Sized } from "../panel.ts";
import type { Scene } from "../scene.ts";
import { ellipsis, fixed, head_name, quoted } from "../text.ts";

interface Parts extends Sized { left: number; chart: { x: number; w: number }; editor: { y: number; pitch: number; first: number; n: number } | null; changed: boolean }

const bars = 88, no_kernel = "Edits run the model again: that needs a kernel, and none answers here.";

const edits = (scene: Scene): { words: string; layer?: number; head?: number }[] => scene.view.content?.edits ?? [];
const changed = (scene: Scene): boolean => Boolean(scene.view.arrays.other_loss);
const row_name = ({ look }: Scene): string => `${look.layer} ${look.head} ${look.query}`;

/** The dragged weights of the looked-at row, while they are not applied. */
const draft = (scene: Scene): number[] | null => (scene.options.row_of === row_name(scene) ? scene.options.row ?? null : null);

/** The row as it is: the edited one where there is one. */
function weights(scene: Scene): number[] {
  const { pattern, look } = scene;
  return draft(scene) ?? Array.from({ length: look.query + 1 }, (_, key) => pattern!.weight(look.layer, look.head, look.query, key) || 0);
}

function layout(scene: Scene, width: number): Parts {
  const two = width >= 700, left = two ? Math.round(width * 0.34) : width, shown = changed(scene);
  if (!scene.live && !shown) return { width, height: 28, left, chart: { x: 0, w: width }, editor: null, changed: false };
  const top = shown ? (two ? 196 : 392) : 24, { place, corner, tokens } = scene, whole = tokens.length * 12 <= width - 64;
  const [first, n] = whole ? [0, tokens.length] : [corner.key, place.window]; // of a long text the keys of the window
  const editor = scene.live && scene.pattern ? { y: top + 44, first, n, pitch: Math.max(4, Math.min(34, Math.floor((width - 64) / n))) } : null;
  return { width, height: editor ? editor.y + bars + 68 : top + 8, left, chart: two ? { x: left + 32, w: width - left - 104 } : { x: 0, w: width - 72 }, editor, changed: shown };
}

function mark(ctx: CanvasRenderingContext2D, parts: Parts, scene: Scene): void {
  const pen = new Pen(ctx, scene.theme);
  if (!scene.live && !parts.changed) return pen.text(no_kernel, 0, 18, { size: 13, colour: scene.theme.ink_3 });
  if (parts.changed) {
    next_token(pen, parts, scene);
    losses(pen, parts, scene);
  } else pen.text("Nothing is edited yet. Press m on a head to mute it, or drag a bar of the row below.", 0, 16, { size: 13, colour: scene.theme.ink_3 });
  if (parts.editor) row(pen, parts, scene);
}

interface Word { word: string; before: number; after: number }

/** The likeliest next tokens of both passes, by the larger of their two probabilities; NaN where one is not among the top. */
export function both({ view, look }: Pick<Scene, "view" | "look">): Word[] {
  const found = new Map<number, Word>(), { arrays, labels } = view;
  for (const [prefix, side] of [["", "before"], ["other_", "after"]] as const) {
    const words = arrays[`${prefix}top_words`]!, k = words.shape[1]!;
    for (let i = 0; i < k; i++) {
      const id = words.values[look.query * k + i]!, one = found.get(id) ?? { word: labels.word![id]!, before: NaN, after: NaN };
      found.set(id, { ...one, [side]: arrays[`${prefix}top_probs`]!.values[look.query * k + i]! });
    }
  }
  const most = ({ before, after }: Word) => Math.max(before || 0, after || 0);
  return [...found.values()].sort((a, b) => most(b) - most(a)).slice(0, 5);
}

function next_token(pen: Pen, { left }: Parts, scene: Scene): void {
  const { theme, tokens, look, measure } = scene, name = 92, bar = Math.max(40, left - name - 108), mono = { mono: true, colour: theme.ink } as const;
  const title = { weight: 600, colour: theme.ink } as const, beside = pen.width("Next token", title) + 8;
  pen.text("Next token", 0, 14, title);
  pen.text(ellipsis(`after ${quoted(tokens[look.query] ?? "")}: above original, below edited`, left - beside, font(theme), measure), beside, 14, { colour: theme.ink_3 });
  both(scene).forEach(({ word, before, after }, i) => {
    const y = 28 + i * 28;
    pen.text(ellipsis(word, name - 8, font(theme, mono), measure), 0, y + 13, mono);
    pen.bar(name, y, bar, 8, before || 0, theme.rule_2);
    pen.bar(name, y + 10, bar, 8, after || 0, theme.sequential.css[170]!);
    pen.text(`${percent(before)} → ${percent(after)}`, left, y + 13, { align: "right", colour: theme.ink });
  });
  const change = scene.view.arrays.change;
  if (change) pen.text(`KL ${fixed(change.values[look.query]!, 4)} nats · – below its ${view_k(scene)} likeliest`, 0, 184, { colour: theme.ink_3 });
}

const view_k = ({ view }: Scene): number => view.arrays.top_words!.shape[1]!;

const percent = (p: number): string => (Number.isNaN(p) ? "–" : fixed(p, 3));

/** Loss edited minus original, one bar per token; what rose is orange and above, what fell blue and below. */
function losses(pen: Pen, { chart }: Parts, scene: Scene): void {
  const { view, theme, tokens, look } = scene, before = view.arrays.loss!.values, after = view.arrays.other_loss!.values, n = tokens.length;
  const y = chart.x ? 0 : 196, zero = y + 92, tall = 56, pitch = chart.w / n, change = Array.from(before, (loss, i) => after[i]! - loss);
  const most = Math.max(0.01, ...change.filter(Number.isFinite).map(Math.abs));
  const mean = (values: typeof before) => { const all = [...values].filter((v) => !Number.isNaN(v)); return all.reduce((a, b) => a + b, 0) / Math.max(1, all.length); };
  const gain = mean(after) - mean(before), at = look.query;
  pen.text("Loss", chart.x, y + 14, { weight: 600, colour: theme.ink });
  pen.text(`mean ${fixed(mean(before), 3)} → ${fixed(mean(after), 3)} nats (${gain >= 0 ? "+" : ""}${fixed(gain, 3)})`, chart.x + 36, y + 14, { colour: theme.ink_3 });
  change.forEach((one, i) => {
    if (!Number.isFinite(one)) return;
    const long = Math.max(1, (tall * Math.abs(one)) / most);
    pen.fill(chart.x + i * pitch + 0.5, one > 0 ? zero - long : zero, Math.max(1, Math.min(28, pitch - 1)), long, theme.diverging.css[one > 0 ? 220 : 36]!);
  });
  pen.line(chart.x, zero + 0.5, chart.x + chart.w, zero + 0.5, theme.rule_2);
  pen.text(`+${fixed(most, 2)} nats`, chart.x + chart.w + 72, zero - tall + 4, { align: "right", colour: theme.ink_3 });
  pen.text(`−${fixed(most, 2)}`, chart.x + chart.w + 72, zero + tall + 4, { align: "right", colour: theme.ink_3 });
  pen.stroke(chart.x + at * pitch - 0.5, zero - tall - 6, Math.max(3, Math.min(30, pitch + 1)), 2 * tall + 12, theme.accent, 1.5, 3);
  const words = Number.isFinite(change[at]) ? `${quoted(tokens[at]!)} ${fixed(before[at]!, 3)} → ${fixed(after[at]!, 3)} (${change[at]! >= 0 ? "+" : ""}${fixed(change[at]!, 3)})` : `${quoted(tokens[at]!)} has no loss: nothing stands before it`;
  pen.text(words, chart.x, zero + tall + 28, { colour: theme.ink });
  if (pen.width(words) + 76 <= chart.w) pen.text("position →", chart.x + chart.w, zero + tall + 28, { align: "right" });
}

/** The weights of the looked-at row as bars that a mouse sets. */
function row(pen: Pen, { editor, width }: Parts, scene: Scene): void {
  const { look, theme, tokens, measure } = scene, { y, pitch, first, n } = editor!, values = weights(scene), dragged = draft(scene), x0 = 44;
  pen.text(`Row of ${head_name(look.layer, look.head)} at position ${look.query}`, 0, y - 22, { weight: 600, colour: theme.ink });
  pen.text(dragged ? `not applied yet: Set row divides the weights by their sum, ${fixed(values.reduce((a, b) => a + b, 0), 2)}` : n < scene.tokens.length ? "the keys of the window; drag a bar to say where this query looks" : "drag a bar to say where this query looks",
           pen.width(`Row of ${head_name(look.layer, look.head)} at position ${look.query}`, { weight: 600 }) + 8, y - 22, { colour: theme.ink_3 });
  for (const tick of [0, 0.5, 1]) {
    pen.line(x0, y + bars * (1 - tick) + 0.5, width - 8, y + bars * (1 - tick) + 0.5, tick ? theme.rule : theme.rule_2);
    pen.text(String(tick), x0 - 8, y + bars * (1 - tick) + 4, { align: "right" });
  }
  for (let key = first; key < Math.min(first + n, values.length); key++) {
    const p = values[key]!, x = x0 + (key - first) * pitch, tall = bars * Math.min(1, Math.max(0, p)), w = Math.max(2, pitch - 3);
    pen.fill(x, y + bars - tall, w, tall, dragged ? theme.sequential.css[110]! : theme.sequential.css[170]!, pitch > 8 ? 2 : 0);
    if (key === look.key) pen.stroke(x - 1.5, y + bars - tall - 1.5, w + 3, tall + 3, theme.ink, 1, 2);
    if (pitch < 20) continue;
    const ink = { mono: true, colour: key === look.key ? theme.ink : theme.ink_2 } as const, word = ellipsis(tokens[key]!, 64, font(theme, ink), measure);
    if (pen.width(word, ink) <= pitch - 4) { pen.text(word, x + w / 2, y + bars + 16, { ...ink, align: "center" }); continue; }
    pen.ctx.save(); pen.ctx.translate(x + w / 2 + 4, y + bars + 12); pen.ctx.rotate(Math.PI / 5);
    pen.text(word, -6, 4, ink);
    pen.ctx.restore();
  }
  if (pitch < 20) pen.text(`key (attended to) →   ${quoted(tokens[look.key] ?? "")} ${fixed(values[look.key] ?? 0, 3)}`, x0, y + bars + 20);
}

/** Where a point of the row editor is: the key, and the weight that its height means. */
function grip({ editor }: Parts, x: number, y: number, scene: Scene): { key: number; weight: number } | null {
  if (!editor || y < editor.y - 8 || y > editor.y + bars + 8) return null;
  const place = Math.floor((x - 44) / editor.pitch), key = editor.first + place;
  return place >= 0 && place < editor.n && key <= scene.look.query ? { key, weight: Math.max(0, Math.min(1, (editor.y + bars - y) / bars)) } : null;
}

function hit(parts: Parts, x: number, y: number, scene: Scene): Hit | null {
  const over = grip(parts, x, y, scene), { chart } = parts, top = chart.x ? 0 : 196;
  if (over) return { at: { layer: scene.look.layer, head: scene.look.head, query: scene.look.query, key: over.key }, drag: "row", grip: over.key };
  if (!parts.changed || x < chart.x || x > chart.x + chart.w || y < top + 20 || y > top + 170) return null;
  return { at: { query: Math.max(0, Math.min(scene.tokens.length - 1, Math.floor(((x - chart.x) / chart.w) * scene.tokens.length))) } };
}

function drag(parts: Parts, { grip: key }: Hit, _x: number, y: number, scene: Scene): Patch {
  const row = [...weights(scene)], { editor } = parts, p = Math.max(0, Math.min(1, (editor!.y + bars - y) / bars));
  row[key!] = Math.round(p * 100) / 100;
  const { layer, head, query } = scene.look;
  return { selection: { layer, head, query, key: key! }, options: { row, row_of: row_name(scene) } };
}

const act = (value: object) => ({ name: "edit", value });

/** What mutes the looked-at head, or lets it speak again; a sentence where no kernel could. */
export function mute(scene: Pick<Scene, "live" | "views" | "look">): Patch {
  const { layer, head } = scene.look, call = "gv.explore(trace, model, tokenizer)", why = `Muting ${head_name(layer, head)} runs the model again`;
  if (!scene.live) return { note: `${why}, which needs a kernel: open this text in a notebook with ${call}.` };
  return scene.views.some((view) => view.kind === "edits") ? { act: act({ do: "mute", layer, head }) } : { note: `${why}, which this board does not do: ${call} does.` };
}

export const is_muted = ({ views }: Pick<Scene, "views">, layer: number, head: number): boolean =>
  (views.find((view) => view.kind === "edits")?.content?.edits ?? []).some((one: any) => one.layer === layer && one.head === head && one.words.includes("ablate_head"));

function controls(scene: Scene): Control[] {
  if (!scene.live) return [];
  const { layer, head, query } = scene.look, name = head_name(layer, head), { factor = 0.5, from = "", row } = scene.options, dragged = draft(scene);
  const empty = String(from).trim() ? undefined : "write a text";
  return [
    { kind: "button", name: "mute", label: `${is_muted(scene, layer, head) ? "Unmute" : "Mute"} ${name}`, act: act({ do: "mute", layer, head }) },
    { kind: "range", name: "factor", label: "factor", low: 0, high: 3, step: 0.1 },
    { kind: "button", name: "scale", label: `Scale ${name}`, act: act({ do: "scale", layer, head, factor }) },
    ...(dragged && row ? [{ kind: "button", name: "set", label: "Set row", primary: true, act: act({ do: "row", layer, head, query, row }) } as Control,
                          { kind: "button", name: "undo", label: "Undo drag", set: { row: null } } as Control] : []),
    { kind: "search", name: "from", label: "from", hint: "another text" },
    { kind: "button", name: "patch", label: `Patch ${name} at ${query}`, disabled: empty, act: act({ do: "patch", layer, head, query, text: from }) },
    { kind: "button", name: "steer", label: `Steer L${layer} at ${query}`, disabled: empty && " ", act: act({ do: "steer", layer, query, text: from }) },
    ...(edits(scene).length ? [{ kind: "button", name: "clear", label: "Clear edits", act: act({ do: "clear" }) } as Control] : []),
  ];
}

function press(key: string, scene: Scene): Patch | null {
  if (key === "m") return mute(scene);
  const { look, tokens } = scene, to = { ArrowLeft: look.query - 1, ArrowRight: look.query + 1, Home: 0, End: tokens.length - 1 }[key];
  return to === undefined ? null : { selection: { query: Math.max(0, Math.min(tokens.length - 1, to)), key: null } };
}

const panel: Panel<Parts> = {
  kind: "edits", name: "edits", half: ({ live }) => !live, tall: () => 64, options: { factor: 0.5, from: "", row: null }, controls,
  slot: () => "below",
  heading(scene) {
    const made = edits(scene).map((one) => one.words.replace("gv.", ""));
    return { title: scene.view.title, subtitle: made.length ? made.join(" · ") : scene.live ? scene.view.subtitle : "not in this page" };
  },
  layout, draw() {}, mark, hit, drag, press,
  lines: ({ view }) => (view.content?.python ? [["Python", view.content.python], ["JSON", view.content.json]] : []),
  says(scene) {
    if (!changed(scene)) return scene.live ? "Nothing is edited. m mutes the head that is looked at." : no_kernel;
    const { view, look, tokens } = scene, words = both(scene).map(({ word, before, after }) => `${quoted(word)} ${percent(before)} to ${percent(after)}`).join(", ");
    return `${edits(scene).map((one) => one.words).join(", ")}. At ${quoted(tokens[look.query]!)} loss ${fixed(view.arrays.loss!.values[look.query]!, 3)} to ${fixed(view.arrays.other_loss!.values[look.query]!, 3)}; next token ${words}.`;
  },
};

export const panels: Panel[] = [panel];
