// The stepper's page: elements that stay, filled from where the reader is. Each part is redrawn only if it changed.
import { make, put } from "../chrome.ts";
import { repaint } from "../paint.ts";
import { fixed, in_quotes, meaning, quoted, smallest, type Measure } from "../text.ts";
import type { Theme } from "../theme.ts";
import { close_up, close_up_title, column_width, columns_of, vocabulary } from "./closeup.ts";
import { finding, shape_words } from "./finding.ts";
import { lay_out, plate_index, plate_value, type Cell, type Layout } from "./layout.ts";
import { changes, equation, overview, question_parts, rail, receipt_rows, source_lines, switch_parts, type Go } from "./parts.ts";
import type { Pass, Question, Switch } from "./pass.ts";
import { draw_plates, mark_plates } from "./plates.ts";
import { shown, type Receipt } from "./receipt.ts";
import { term_nodes, terms, type Glossary } from "./terms.ts";
import type { Place, Shown, Walk } from "./walk.ts";

/** What a press in the page does. */
export interface Presses {
  go: Go; focus(name: string): void; open(tensor: Shown): void; move(change: Partial<Place>): void; choose_last(column: number): void;
  answer(question: Question, given: number): void; next_question(): void; take_away(one: Switch): void; walk(by: 1 | -1): void;
}
/** What the page needs to know of its surroundings. */
export interface Around { theme: Theme; measure: Measure; width: number; live: boolean; missing: string; asked(name: string, value: object): boolean; still: boolean }

export class Page {
  readonly el = skeleton();
  layout: Layout | null = null;
  private paid: Receipt | null = null;
  private room = 600; // pixels for the drawing
  private told = new WeakMap<HTMLElement, string>();
  private readonly seen = new Set<string>(); // words that are explained above the stage
  private arriving: Animation | undefined;
  private readonly still = matchMedia("(prefers-reduced-motion: reduce)");

  constructor(private walk: Walk, private press: Presses) {
    this.el.steps.prepend(pressable("gv-small", "← back", () => press.walk(-1)), pressable("gv-small", "next →", () => press.walk(1)));
  }

  /** Whether a part must be made anew; remembers what it was made for. */
  private stale(el: HTMLElement, ...made_for: unknown[]): boolean {
    const name = JSON.stringify(made_for);
    if (this.told.get(el) === name) return false;
    this.told.set(el, name);
    return true;
  }

  draw(around: Around): void {
    this.room = this.el.stage_box.clientWidth || 600; // read before anything is written: the page is laid out once
    this.paid = this.walk.hidden ? null : this.walk.receipt();
    this.draw_words();
    put(this.el.left_out, around.live ? this.walk.pass.content.left_out.join(" ") : this.walk.pass.page_words);
    this.draw_stage(around);
    this.draw_close_up(around);
    this.draw_receipt(around);
    this.draw_source();
    this.draw_question();
    this.draw_switches(around);
    const { walk, el } = this;
    put(el.live, `${walk.state()}. ${walk.now.title}. ${walk.now.sentence} ${el.finding.textContent} ${el.readout.textContent}`);
    if (this.stale(el.live, walk.state(), around.width)) for (const box of [el.boxes, el.tokens]) show_inside(box, box.querySelector<HTMLElement>(".gv-here"));
  }

  private draw_words(): void {
    const { el, walk, press } = this, { now, pass, place, focus } = walk, { config } = pass.content;
    this.explain([[el.title, now.title], [el.sentence, now.sentence], [el.finding, finding(walk)], [el.misconception, now.misconception]]);
    put(el.number, `stage ${now.number}${now.in_block ? ` · layer L${place.layer} of ${pass.n_layer}` : ""}${focus && pass.axes(focus).includes("head") ? ` · head ${place.head} of ${config.n_head}` : ""}`);
    put(el.hint, now.number ? "" : `${pass.content.learned ? `${pass.content.learned} ` : ""}How to read this: ${pass.view.subtitle}.`);
    put(el.state, walk.state());
    put(el.shape, focus ? shape_words(pass, focus) : "");
    if (this.stale(el.equation, now.number, focus)) el.equation.replaceChildren(...equation(pass, now, focus, press.focus));
    if (this.stale(el.boxes, now.in_block ? place.layer : -1, pass.tokens)) el.boxes.replaceChildren(...overview(pass, now, place.layer, press.go));
    if (this.stale(el.rail, place.layer, pass.tokens)) el.rail.replaceChildren(...rail(pass, place.layer, press.go));
    light(el.boxes, now.id);
    light(el.rail, now.id);
    this.picker(el.layers, "layer", pass.n_layer);
    this.picker(el.heads, "head", config.n_head);
    this.draw_tokens();
  }

  /** Fill elements, in the order of the page, with texts in which the first use of each word of the glossary is explained. */
  private explain(texts: [HTMLElement, string][]): void {
    const glossary = this.glossary, seen = new Set(this.seen);
    for (const [el, text] of texts) {
      const parts = terms(text, glossary, seen);
      if (!this.stale(el, parts)) continue;
      if (el.matches(":focus-within")) this.el.stage_box.focus({ preventScroll: true }); // its word goes: the keys must not go with it
      el.replaceChildren(...term_nodes(parts, glossary));
    }
  }

  private get glossary(): Glossary { return this.walk.pass.content.glossary ?? {}; }

  private draw_tokens(): void {
    const { tokens } = this.walk.pass, { pos } = this.walk.place, { el } = this, most = 200;
    if (this.stale(el.tokens, tokens)) {
      const chips = tokens.slice(0, most).map((token, i) => {
        const chip = pressable("gv-chip", token.slice(0, 40), () => this.press.move({ pos: i }));
        chip.setAttribute("aria-label", [`position ${i}: ${token.slice(0, 40)}`, meaning(token)].filter(Boolean).join(", "));
        chip.title = meaning(token);
        return chip;
      });
      el.tokens.replaceChildren(...chips, make("span", "gv-count", [tokens.length > most ? `the first ${most} of ${tokens.length} tokens` : `${tokens.length} tokens`, ...this.walk.passes.slice(1).map((one) => beside(one, tokens))].join(" · ")));
    }
    const chosen = pos < most ? (el.tokens.children[pos] as HTMLElement) : null, before = el.tokens.querySelector<HTMLElement>(".gv-here");
    if (before === chosen) return;
    if (before) mark(before, false);
    if (chosen) mark(chosen, true);
  }

  /** layer 0 [1] 2 3 */
  private picker(holder: HTMLElement, name: "layer" | "head", n: number): void {
    const at = this.walk.place[name], most = 16, from = Math.max(0, Math.min(n - most, at - 8));
    if (this.stale(holder, n, from)) holder.replaceChildren(make("span", "", name), ...Array.from({ length: Math.min(n, most) }, (_, i) => { const one = pressable("", String(from + i), () => this.press.move({ [name]: from + i })); one.setAttribute("aria-label", `${name} ${from + i}`); return one; }));
    [...holder.children].slice(1).forEach((one, i) => mark(one as HTMLElement, from + i === at));
    holder.firstElementChild!.textContent = n > most ? `${name} ${at} of ${n}` : name;
  }

  // --- the drawing -----------------------------------------------------------------------------------------

  private draw_stage({ theme, measure, missing, still }: Around): void {
    const { el, walk } = this, { now, focus, place, passes } = walk, width = Math.max(280, this.room - 4), gone = now.tensors.concat(focus).some((name) => name && !walk.here(name));
    const drawing = [now.number, place.layer, place.head, width, theme.paper, theme.ink, walk.hidden, missing, walk.pass.tokens, passes.length], changed = this.stale(el.base, ...drawing, devicePixelRatio);
    if (changed) this.layout = !focus || gone ? null : lay_out(walk, width, measure, theme);
    const left_out = this.layout?.gone.map(({ name, layer }) => `${name} L${layer}`).join(", ");
    put(el.missing, gone ? missing : left_out ? `not drawn: ${left_out}; ${missing}` : "");
    el.missing.hidden = !el.missing.textContent;
    el.stage_box.classList.toggle("gv-none", !this.layout);
    if (!this.layout) return put(el.readout, "");
    if (changed) {
      if (!still && el.stage.dataset.stage !== String(now.number)) this.arrive();
      el.stage.dataset.stage = String(now.number);
      for (const canvas of [el.base, el.over]) fit(canvas, this.layout);
      el.stage.style.width = `${this.layout.width}px`; el.stage.style.height = `${this.layout.height}px`;
      repaint(el.base, (ctx) => draw_plates(ctx, this.layout!, theme, walk.hidden));
    }
    this.draw_over(theme, measure, null);
  }

  /** Something that a key has to say, seen and heard; "" for nothing. */
  say(words: string): void {
    const { notice } = this.el;
    if (notice.textContent === words) return;
    put(notice, words);
    notice.hidden = !words;
    if (words) notice.scrollIntoView({ block: "nearest" });
  }

  /** The first use of words in what is known of the model, which stands above the stage. */
  explain_facts(facts: HTMLElement): void {
    const text = facts.lastChild!;
    text.replaceWith(...term_nodes(terms(text.textContent!, this.glossary, this.seen), this.glossary));
  }

  /** Bring the reader to what breaks without a part, and say it. */
  show_breaks(): void {
    const { breaks } = this.el;
    this.say_breaks();
    breaks.focus({ preventScroll: true });
    breaks.scrollIntoView({ block: "nearest", behavior: this.still.matches ? "auto" : "smooth" });
  }

  /** What breaks, to a screen reader. */
  say_breaks(): void {
    const { switches, live } = this.el;
    put(live, `What breaks without it: ${[...switches.querySelectorAll(".gv-switch-head b, .gv-with tr, .gv-note")].map((one) => (one.matches("tr") ? [...one.children].map((cell) => cell.textContent).join(" ") : one.textContent)).slice(0, 5).join("; ")}`);
  }

  /** Why a place cannot be gone to; "" where it can. */
  say_jump(why: string): void {
    const { jump, jump_note } = this.el;
    put(jump_note, why);
    jump_note.hidden = !why;
    if (why) jump.setAttribute("aria-invalid", "true"); else jump.removeAttribute("aria-invalid");
  }

  /** The tensors of the next stage come in from the side of the last one. */
  private arrive(): void {
    this.arriving?.cancel(); // kept here: to ask the element for its animations lays the page out
    if (!this.still.matches) this.arriving = this.el.stage.animate?.([{ transform: "translateX(24px)", opacity: 0.2 }, { transform: "none", opacity: 1 }], { duration: 220, easing: "ease-out" });
  }

  /** What moves with the mouse: outlines, the number under it. */
  draw_over(theme: Theme, measure: Measure, hover: Cell | null): void {
    const { el, walk, layout } = this;
    if (!layout) return;
    const over = hover && hover.plate.name !== walk.hidden ? hover : null;
    repaint(el.over, (ctx) => mark_plates(ctx, layout, walk, theme, measure, this.paid?.sources ?? [], over));
    put(el.readout, this.readout());
    this.callout(over, layout);
  }

  private readout(): string {
    const { walk } = this, { focus, at, passes } = walk, layer = walk.layer_of(focus), words = walk.words(focus, layer, at), [other] = passes.slice(1);
    if (walk.hidden === focus) return `${words}: predict first, then look`;
    if (walk.pass.absent(focus, ...at)) return `${words} = –: ${no_loss}`;
    const value = walk.pass.value(focus, layer, ...at), ids = walk.pass.content.tensors[focus]!.colour === "id";
    const two = other?.value(focus, layer, ...at), beside = two === undefined ? "" : `   ·   ${other!.content.label || "second pass"}: ${exact(two)}, difference ${exact(two - value)}`;
    return `${words} = ${ids ? value : exact(value)}${beside}`;
  }

  /** The number under the mouse, beside its cell. */
  private callout(hover: Cell | null, layout: Layout): void {
    const { el, walk } = this, { callout } = el;
    callout.hidden = !hover;
    if (!hover) return;
    const { plate, row, column } = hover, value = plate_value(plate, row, column), at = plate_index(plate, walk.place.head, row, column), [i, j] = plate.turned ? [column, row] : [row, column];
    const across = plate.columns === "key" ? ` → ${quoted(walk.pass.tokens[j]!)}` : plate.columns === "d_vocab" ? ` → ${quoted(walk.pass.columns[j]!)}` : "", token = `${quoted(walk.pass.tokens[i] ?? "")}${across}`;
    const places = plate.axes.map((axis, k) => (axis === "d_vocab" ? `token ${in_quotes(walk.pass.columns[at[k]!]!)}` : `${axis} ${at[k]}`));
    callout.replaceChildren(make("b", "", walk.pass.absent(plate.name, ...at) ? "–" : plate.colours ? shown(value) : String(value)), make("span", "", token), make("small", "", `${plate.caption}  ${places.join(", ")}`));
    const w = plate.w / (plate.turned ? plate.n_rows : plate.n_columns), h = plate.h / (plate.turned ? plate.n_columns : plate.n_rows), x = plate.x + (column + 1) * w + 10, y = plate.y + row * h - 4, wide = callout.offsetWidth, high = callout.offsetHeight;
    callout.style.left = `${x + wide > layout.width ? Math.max(0, plate.x + column * w - wide - 10) : x}px`;
    callout.style.top = `${Math.max(0, Math.min(y, layout.height - high))}px`;
  }

  private draw_close_up({ theme, measure, live, missing }: Around): void {
    const { el, walk, press } = this, { now, pass, focus, place, hidden } = walk, width = this.room, none = !focus || !walk.here(focus) || hidden !== null;
    if (!this.stale(el.closeup, now.number, place, focus, hidden, width, theme.paper, theme.ink, missing, live, pass.tokens)) return;
    const columns = none ? [] : columns_of(walk, width, measure, theme);
    el.closeup.style.setProperty("--gv-column", `${column_width(measure, theme)}px`);
    el.closeup.classList.toggle("gv-changes", now.id === "change");
    if (now.id === "change") el.closeup.replaceChildren(...changes(pass, walk.passes[1]!, press.open));
    else el.closeup.replaceChildren(...(none ? [] : focus === "ids" ? vocabulary(walk, width, measure, theme) : close_up(walk, columns, theme, press.choose_last)));
    put(el.closeup_title, now.id === "change" ? "Relative change of each tensor, largest first: |this − other| / |this|" : none ? "" : close_up_title(walk, columns));
  }

  // --- beside it -------------------------------------------------------------------------------------------

  private draw_receipt({ live, missing }: Around): void {
    const { el, walk, paid } = this, { focus, pass } = walk, hidden = walk.hidden !== null;
    el.receipt.parentElement!.hidden = !focus;
    if (!focus || !this.stale(el.receipt, walk.address, hidden, paid?.result, paid?.recorded, missing)) return;
    put(el.receipt_cell, walk.words(focus, walk.layer_of(focus), walk.at));
    const layer = walk.layer_of(focus), lacking = layer === null ? "the numbers that it was computed from" : `the weights of L${layer}`;
    const none = paid && pass.absent(focus, ...walk.at), strange = Number.isNaN(pass.value(focus, layer, ...walk.at)) && "The model computed NaN here, no number: something that it was computed from is NaN or infinite.";
    const why = hidden ? "hidden until you have answered" : !walk.here(focus) ? missing : none ? `There is no loss here and nothing to compute: ${no_loss}.` : strange ? strange : live ? "asking the kernel …" : `This number is the model’s own. Its arithmetic is not here, for this page does not hold ${lacking}: what it holds is told below.`;
    el.receipt.replaceChildren(...(paid && !none ? receipt_rows(paid, pass.content.units[focus] ?? "", pass) : [make("p", "gv-note", why)]));
  }

  private draw_source(): void {
    const { el, walk } = this, { focus, now, pass } = walk, lines = focus && now.tensors.includes(focus) ? pass.content.tensors[focus]!.lines : now.lines;
    el.source.parentElement!.hidden = !lines.length;
    if (!this.stale(el.source, now.number, focus)) return;
    put(el.scope, lines[0]?.scope ?? "");
    el.source.replaceChildren(...source_lines(pass, lines));
  }

  private draw_question(): void {
    const { el, walk } = this, { question, asked_at } = walk;
    el.predict.hidden = !question && !asked_at;
    if (asked_at && this.stale(el.question, asked_at, walk.state())) this.point_to(asked_at);
    if (!question || !this.stale(el.question, question.id, walk.answers.get(question.id), walk.predicting, walk.score)) return;
    put(el.predict_words, [walk.hidden ? "the result is hidden until you answer · P shows it" : walk.predicting ? "P no longer hides results" : "P hides the result until you answer", walk.score].filter(Boolean).join(" · "));
    el.question.replaceChildren(...question_parts(question, walk.answers.get(question.id), (given) => this.press.answer(question, given)),
                                ...(walk.has_next_question ? [pressable("gv-small", "next question (N)", this.press.next_question)] : []));
  }

  /** Begin to write the answer of a question that wants a number; the key that is pressed goes into its field. Whether there is one. */
  write_number(): boolean {
    const field = this.el.question.querySelector<HTMLInputElement>(".gv-number-field:enabled");
    field?.focus();
    return Boolean(field);
  }

  /** Where the question of this stage is, if it has none here: of many heads few are asked about, and nothing about ties. */
  private point_to(at: Partial<Place>): void {
    put(this.el.predict_words, "");
    const place = [["L", at.layer], ["H", at.head]].filter(([, one]) => one !== undefined).map((one) => one.join("")).join(" ");
    this.el.question.replaceChildren(make("p", "gv-note", "There is no question about this place. "), pressable("gv-small", `one is about ${place}`, () => this.press.move(at)));
  }

  private draw_switches({ live, asked }: Around): void {
    const { el, walk } = this, { pass, now, place } = walk, here = pass.content.switches.available.filter((one) => one.stage === now.id);
    const found = here.map((one) => { const at = switch_place(one, place); return { one, result: walk.switched.get(`${one.id} ${at.layer} ${at.head}`), waiting: asked("switch", { id: one.id, ...at }) }; });
    if (!here.length && !el.breaks.hidden && el.breaks.matches(":focus-within")) el.stage_box.focus({ preventScroll: true });
    el.breaks.hidden = !here.length;
    if (!this.stale(el.switches, now.number, place.layer, place.head, found.map(({ result, waiting }) => [result?.id, waiting]), pass.tokens)) return;
    const words = (waiting: boolean) => (waiting ? "asking the kernel …" : live ? "" : "not in this page: the notebook runs it");
    el.switches.replaceChildren(...found.map(({ one, result, waiting }) => switch_parts(pass, one, result, words(waiting), live ? () => this.press.take_away(one) : null)));
  }
}

/** What stands beside the first pass; its text, where that is another one. */
function beside({ tokens, content }: Pass, first: string[]): string {
  const text = tokens.join(""), other = text === first.join("") ? "" : `: ${text.length > 60 ? `${text.slice(0, 60)}…` : text}`;
  return `beside ${content.label || "another pass"}${other}`;
}

export const switch_place = (one: Switch, place: Place): { layer: number | null; head: number | null } => ({ layer: one.by.includes("layer") ? place.layer : null, head: one.by.includes("head") ? place.head : null });

const no_loss = "nothing comes before the first token, so nothing predicts it";

const exact = (value: number): string => (Number.isFinite(value) && Math.abs(value) >= smallest ? fixed(value, 6) : shown(value));

function pressable(name: string, words: string, press: () => void): HTMLButtonElement {
  const el = make("button", name, words);
  el.type = "button"; el.tabIndex = -1; // one tab stop: the stage; keys do the same
  el.addEventListener("click", press);
  return el;
}

function mark(el: HTMLElement, here: boolean): void {
  el.classList.toggle("gv-here", here);
  if (here) el.setAttribute("aria-current", "true"); else el.removeAttribute("aria-current");
}

/** Light the stage among the boxes or stops, and for stops those before it. */
function light(box: HTMLElement, stage: string): void {
  const all = [...box.querySelectorAll<HTMLElement>("[data-stage]")], at = all.findIndex((one) => one.dataset.stage === stage);
  all.forEach((one, i) => {
    one.classList.toggle("gv-past", i < at);
    one.classList.toggle("gv-here", i === at);
    if (i === at) one.setAttribute("aria-current", "step"); else one.removeAttribute("aria-current");
  });
}

/** Scroll a box, and nothing around it, until one of its children is in sight. */
function show_inside(box: HTMLElement, child?: HTMLElement | null): void {
  if (!child || (box.scrollHeight <= box.clientHeight && box.scrollWidth <= box.clientWidth)) return;
  const inner = child.getBoundingClientRect(), outer = box.getBoundingClientRect();
  if (inner.top < outer.top || inner.bottom > outer.bottom) box.scrollTop += inner.top - outer.top - outer.height / 3;
  if (inner.left < outer.left || inner.right > outer.right) box.scrollLeft += inner.left - outer.left - outer.width / 3;
}

function fit(canvas: HTMLCanvasElement, { width, height }: Layout): void {
  const ratio = devicePixelRatio || 1, w = Math.round(width * ratio), h = Math.round(height * ratio);
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
}

function panel(title: string, subtitle: HTMLElement | null, ...children: HTMLElement[]): HTMLElement {
  const section = make("section", "gv-panel"), head = make("div", "gv-heading");
  section.setAttribute("aria-label", title);
  head.append(make("h3", "gv-title", title), ...(subtitle ? [subtitle] : []));
  section.append(head, ...children);
  return section;
}

const div = (name: string) => make("div", name), note = () => make("span", "gv-subtitle");

/** The one place that takes the focus: its keys walk. */
function stage_parts() {
  const base = make("canvas", "gv-canvas"), over = make("canvas", "gv-canvas gv-over"), stage = div("gv-plates"), stage_box = div("gv-stage-box"), callout = div("gv-callout-cell");
  for (const hidden of [base, over, callout]) hidden.setAttribute("aria-hidden", "true");
  callout.hidden = true;
  stage.append(base, over, callout);
  stage_box.tabIndex = 0;
  stage_box.setAttribute("role", "application"); // arrow keys are ours, not the screen reader's
  stage_box.setAttribute("aria-label", "the stage: arrow keys walk through the forward pass, question mark lists the keys");
  stage_box.append(stage);
  return { base, over, stage, stage_box, callout };
}

const key_line: [string[], string][] = [[["←", "→"], "stage"], [["↑", "↓"], "layer"], [["[", "]"], "head"], [["⇧", "arrows"], "cell"], [["T"], "tensor"], [["P"], "predict"], [["W"], "without it"], [["/"], "go to"], [["?"], "all keys"]];

export function key_caps(caps: string[], words: string): HTMLElement {
  const el = make("span", "gv-key");
  el.append(...caps.map((cap) => make("kbd", "", cap)), make("span", "", words));
  return el;
}

/** The elements that stay; their contents change with the stage. */
function skeleton() {
  const drawing = stage_parts(), title = make("h2", "gv-stage-title"), notice = make("p", "gv-notice"), number = note(), sentence = make("p", "gv-sentence"), equation_line = div("gv-equation"), readout = make("p", "gv-readout-line"), found = make("p", "gv-finding"), shape = make("p", "gv-shape-words"), missing = make("p", "gv-note");
  const steps = make("span", "gv-back-next"), hint = make("p", "gv-hint"), closeup = div("gv-closeup"), closeup_title = make("h3", "gv-title"), misconception = make("p", "gv-misconception"), main = make("section", "gv-main"), state = make("code", "gv-state"), top = div("gv-stage-head");
  main.setAttribute("aria-label", "stage");
  steps.append(state);
  top.append(title, number, steps);
  notice.hidden = true;
  notice.setAttribute("role", "status");
  main.append(top, notice, sentence, hint, equation_line, missing, drawing.stage_box, shape, readout, found, closeup_title, closeup, misconception);
  const boxes = div("gv-boxes"), model = panel("Model", null, boxes), scope = note(), source = div("gv-source"), receipt_cell = note(), receipt = div("gv-receipt");
  const predict_words = note(), question = div("gv-question"), switches = div("gv-switches"), side = make("section", "gv-side");
  const predict = panel("Predict", predict_words, question), breaks = panel("What breaks without it", null, switches);
  model.classList.add("gv-model");
  breaks.classList.add("gv-breaks");
  side.setAttribute("aria-label", "source, arithmetic, question");
  breaks.tabIndex = -1; // W brings the reader here
  side.append(panel("model.py", scope, source), panel("Receipt", receipt_cell, receipt), predict, breaks);
  const left_out = make("p", "gv-note gv-left-out"), jump = make("input", "gv-jump"), jump_note = make("p", "gv-jump-note"), help = div("gv-help"), live = make("p", "gv-live"), keys = div("gv-key-line");
  keys.append(...key_line.map(([caps, words]) => key_caps(caps, words)));
  jump.type = "text"; jump.hidden = true; jump.placeholder = "L1 H0 stage 8 token 5, or a stage’s name";
  jump.setAttribute("aria-label", "go to a place, such as L1 H0 stage 8 token 5");
  jump_note.hidden = true;
  jump_note.setAttribute("role", "alert");
  help.hidden = true;
  help.setAttribute("role", "note");
  live.setAttribute("aria-live", "polite");
  return { ...drawing, title, notice, number, sentence, equation: equation_line, readout, finding: found, shape, missing, closeup, closeup_title, misconception, main, state, steps, hint, boxes, model, scope, source, receipt_cell, receipt,
           predict, predict_words, question, breaks, switches, side, left_out, jump_note, jump, help, live, keys, tokens: div("gv-tokens"), layers: div("gv-picker"), heads: div("gv-picker"), rail: div("gv-rail") };
}
