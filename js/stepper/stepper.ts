// The stepper: a forward pass, one stage at a time, every number with its arithmetic. Joins host, walk and page.
import { footer, header, make, put, text_form } from "../chrome.ts";
import { Details } from "../details.ts";
import type { Host } from "../host.ts";
import { Link } from "../link.ts";
import { decode_view, type RawBoard, type RawFrame, type View } from "../payload.ts";
import { type Measure } from "../text.ts";
import { is_dark, read_theme, watch_theme, type Theme } from "../theme.ts";
import { find_cell, plate_index, type Cell } from "./layout.ts";
import { key_caps, Page, switch_place, type Presses } from "./page.ts";
import { Pass, type Switch, type Switched } from "./pass.ts";
import { receipt, type Receipt } from "./receipt.ts";
import { glossary_list } from "./terms.ts";
import { Walk, type Place } from "./walk.ts";

const keys: [string[], string][] = [
  [["←", "→"], "stage before, next"], [["↑", "↓"], "layer above, below"], [["[", "]"], "head before, after"], [["Home", "End"], "first, last stage"],
  [["⇧", "arrows"], "move the chosen cell"], [["T"], "next tensor of the stage: q, k, v"], [["Space"], "play, pause"], [["P"], "predict: hide the result until you answer; A to H choose, a number is written and sent with Enter"], [["N"], "the stage’s next question, once this one is answered"],
  [["W"], "without it: run the first thing that the stage lets you take away, and go there"], [["/"], "go to a place: L1 H0 stage 8 token 5"], [["G"], "go to a token"], [["?"], "this list"],
];

export class Stepper {
  readonly root = make("div", "gv-board gv-stepper");
  private readonly stop = new AbortController();
  private readonly link: Link;
  private readonly details: Details;
  private readonly measure: Measure;
  private readonly walk = new Walk();
  private board!: RawBoard;
  private raw: RawBoard | null = null;
  private text = "";
  private hover: Cell | null = null;
  private asked = new Set<string>();
  private error = "";
  private playing: ReturnType<typeof setInterval> | undefined;
  private linking: ReturnType<typeof setTimeout> | undefined;
  private width = 0;
  private theme!: Theme;
  private queued = 0;
  private whole = false; // whether more than the hover is to be drawn
  private page!: Page;
  private chrome!: { header: ReturnType<typeof header>; form: ReturnType<typeof text_form>; footer: HTMLElement };

  constructor(private readonly host: Host, private readonly page_weight = "") {
    this.link = new Link((message) => host.send(message));
    this.details = new Details(host.live, (message) => host.send(message));
    const context = make("canvas").getContext("2d")!;
    this.measure = (text, font) => { context.font = font; return context.measureText(text).width; };
    this.root.dataset.lmSuppressShortcuts = "true";
    (this.root as any).stepper = this; // what a test compares with Python
    this.take_payload();
  }

  attach(el: HTMLElement): void {
    el.append(this.root);
    this.set_theme();
    this.listen();
    this.width = this.root.clientWidth || 960;
    if (!this.host.live) this.follow_link();
    this.queue();
  }

  close(): void {
    this.stop.abort();
    this.link.stop();
    this.details.stop();
    clearInterval(this.playing);
    clearTimeout(this.linking);
    cancelAnimationFrame(this.queued);
    this.root.remove();
  }

  /** The receipt of a cell, as the page computes it. */
  receipt(tensor: string, layer: number | null, at: number[], view = 0): Receipt | null { return receipt(this.walk.passes[view]!, tensor, layer, at); }

  // --- what came ------------------------------------------------------------------------------------------

  private take_payload(): void {
    this.raw = this.board = this.host.payload();
    this.text = this.board.text;
    this.take_views(this.board.views.map((view) => decode_view(view)));
    const { layer, head, query, key } = this.board.selection;
    this.walk.place = { layer: layer ?? 0, head: head ?? 0, pos: query ?? 0, key: key ?? 0, column: 0 };
    this.build();
    this.changed();
  }

  private take_views(views: View[]): void {
    this.asked.clear();
    this.walk.take(views.filter((view) => view.kind === "stepper").map((view) => new Pass(view, (layer) => this.detail(view, layer).view)));
  }

  private detail(view: View, layer: number) { return this.details.find(view, { layer }, this.board.selection.step, this.text); }

  private receive = (content: any, buffers: DataView[] = []): void => {
    if (content.hello) { this.chrome.form.el.hidden = !content.editable; return; }
    if (this.details.receive(content, buffers)) return this.queue();
    if (content.acted === "receipt") { this.walk.paid.set(JSON.stringify(content.receipt.cell), revive(content.receipt)); return this.queue(); }
    if (content.acted === "switch") { this.walk.keep_switched(content.switch as Switched); this.queue(); if (this.page.el.breaks.matches(":focus")) requestAnimationFrame(() => this.page.say_breaks()); return; }
    if (!this.link.answered(content)) return;
    this.error = content.error ?? "";
    if (content.frame) this.take_frame(content.frame as RawFrame, buffers);
    requestAnimationFrame(() => this.link.painted());
    this.show_error();
  };

  private take_frame(frame: RawFrame, buffers: DataView[]): void {
    this.text = frame.text;
    this.take_views(frame.views.map((view, i) => (view ? decode_view(view, buffers) : decode_view(this.board.views[i]!))));
    this.walk.move({ pos: this.walk.pass.tokens.length - 1, key: 0 });
    this.changed();
  }

  /** Ask the kernel to do something, once. */
  private act(name: string, value: Record<string, unknown>): void {
    if (!this.host.live || this.has_asked(name, value)) return;
    this.asked.add(JSON.stringify([name, value]));
    this.host.send({ ask: "act", name, value });
  }

  private has_asked = (name: string, value: object): boolean => this.asked.has(JSON.stringify([name, value]));

  // --- where the reader is --------------------------------------------------------------------------------

  state(): string { return this.walk.state(); }

  private changed(): void {
    const { layer, head, pos, key } = this.walk.place;
    this.error = "";
    this.page.say("");
    this.page.say_jump("");
    this.host.set({ layer, head, query: pos, key });
    this.write_link();
    this.queue();
  }

  /** The address follows when the keys rest: browsers refuse a page that changes it more than a hundred times in half a minute. */
  private write_link(): void {
    if (this.host.live || !this.width) return;
    clearTimeout(this.linking);
    this.linking = setTimeout(() => history.replaceState(null, "", `#${this.walk.state().replace(/ /g, "-")}`), 150);
  }

  private move(change: Partial<Place>): void { this.walk.move(change); this.changed(); }
  /** Go where the link says: that of the event, for our own writing of a link may have overtaken it in the address. */
  private follow_link = (event?: HashChangeEvent): void => {
    const link = event ? new URL(event.newURL).hash : location.hash;
    if (!link) return;
    const wrong = this.walk.jump(words_of_link(link), true);
    this.changed();
    this.page.say_jump(wrong && `${wrong} Shown instead: ${this.walk.state()}.`);
  };

  private presses(): Presses {
    const { walk } = this, then = <T extends unknown[]>(act: (...all: T) => void) => (...all: T) => { act(...all); this.changed(); };
    const stage_at = (id?: string) => walk.pass.content.stages.findIndex((one) => one.id === id);
    return {
      go: then(({ stage, layer }) => { if (layer !== undefined) walk.place.layer = layer; walk.go_to(stage_at(stage)); }), focus: then((name) => { walk.focus = name; }), open: then((tensor) => walk.open_tensor(tensor)),
      move: then((change) => walk.move(change)), choose_last: then((at) => walk.choose_last(at)), answer: then((question, given) => { walk.answer(question, given); this.page.el.stage_box.focus({ preventScroll: true }); }), next_question: then(() => walk.next_question()), take_away: (one) => this.take_away(one),
      walk: then((by) => (by > 0 ? walk.next() : walk.back())),
    };
  }

  /** W: the first thing that this stage lets one take away, in sight and under the focus; or in words that there is none. */
  private take_first_away(): void {
    const { walk, page } = this, { available } = walk.pass.content.switches, first = available.find((one) => one.stage === walk.now.id);
    if (!first) return page.say(`This stage has nothing to take away (W). ${stages_with(walk, available)}`);
    this.take_away(first);
    requestAnimationFrame(() => page.show_breaks()); // after the drawing that was queued
  }

  private take_away(one: Switch): void { this.act("switch", { id: one.id, ...switch_place(one, this.walk.place) }); this.queue(); }

  // --- page -----------------------------------------------------------------------------------------------

  private build(): void {
    const { board, walk } = this, weight = this.page_weight || board.cost;
    this.chrome = { header: header(board), form: text_form(board), footer: footer(walk.pass.view.checks, weight) };
    this.chrome.form.el.hidden = !board.editable || !this.host.live;
    this.chrome.header.saved.hidden = true;
    const page = this.page = new Page(walk, this.presses()), { el } = page, list = make("dl");
    for (const [caps, words] of keys) { const term = make("dt"); term.append(...key_caps(caps, "").querySelectorAll("kbd")); list.append(term, make("dd", "", words)); }
    const glossary = walk.pass.content.glossary ?? {};
    el.help.append(make("h3", "gv-title", "Keys"), list, make("h3", "gv-title", "Words"), glossary_list(glossary));
    page.explain_facts(this.chrome.header.el.querySelector(".gv-facts")!);
    this.chrome.header.steps.append(el.layers, el.heads);
    this.root.replaceChildren(this.chrome.header.el, this.chrome.form.el, el.tokens, el.jump, el.jump_note, el.help, el.model, el.main, el.side, el.rail, el.left_out, el.keys, this.chrome.footer, el.live);
    this.listen_parts();
  }

  private set_theme = (): void => {
    const dark = is_dark(this.root);
    this.root.classList.toggle("gv-dark", dark);
    this.theme = read_theme(this.root, dark);
    if (this.width) this.queue();
  };

  private queue(whole = true): void {
    this.whole ||= whole;
    if (!this.queued) this.queued = requestAnimationFrame(() => { this.queued = 0; this.draw(); });
  }

  private draw(): void {
    if (!this.theme.ink) this.set_theme();
    if (!this.theme.ink) return this.queue();
    const { walk, page, theme, measure, width } = this;
    if (this.whole) {
      this.whole = false;
      this.hover = null;
      this.root.dataset.columns = width < 1000 ? "1" : width < 1240 ? "2" : "3"; // the overview needs room; below it the rail does its work
      this.root.classList.toggle("gv-narrow", width < 700);
      if (walk.focus && walk.here(walk.focus) && !walk.hidden && !walk.receipt()) this.act("receipt", walk.address);
      page.draw({ theme, measure, width, live: this.host.live, missing: this.missing(), asked: this.has_asked, still: this.playing !== undefined });
      this.root.dataset.drawn = walk.state(); // tests wait for it
    } else page.draw_over(theme, measure, this.hover);
  }

  /** Why tensors of a layer are not here, and which layers are. */
  private missing(): string {
    const { pass, place } = this.walk, held = pass.held_layers;
    if (!held || pass.holds("resid_pre", place.layer)) return "";
    const { words } = this.detail(pass.view, place.layer);
    return this.host.live ? words : `L${place.layer} is ${words}. In this page: ${held.length ? held.map((one) => `L${one}`).join(", ") : "no layer"}, and the stages outside of the blocks.`;
  }

  private show_error(): void {
    this.chrome.form.error.hidden = !this.error;
    put(this.chrome.form.error, this.error ? `✕ ${this.error}` : "");
  }

  // --- listeners ------------------------------------------------------------------------------------------

  private listen(): void {
    const { signal } = this.stop;
    watch_theme(this.set_theme, signal);
    const observer = new ResizeObserver(() => { if (this.root.clientWidth && this.root.clientWidth !== this.width) { this.width = this.root.clientWidth; this.queue(); } });
    observer.observe(this.root);
    signal.addEventListener("abort", () => observer.disconnect());
    this.root.addEventListener("keydown", this.press, { signal });
    if (!this.host.live) { // a page of its own: its keys work before the first click, and wherever a click took the focus away
      window.addEventListener("hashchange", this.follow_link, { signal });
      document.addEventListener("keydown", (event) => { if (event.target === document.body) this.press(event); }, { signal });
    }
    document.fonts?.ready.then(() => { if (!signal.aborted) this.queue(); });
    this.host.on_change(this.pull);
    this.host.on_message(this.receive);
    if (this.host.live) this.host.send({ ask: "hello" });
  }

  private pull = (): void => {
    if (this.host.payload() !== this.raw) this.take_payload();
    const { layer, head, pos, key } = this.walk.place, got = (name: "layer" | "head" | "query" | "key", now: number) => this.host.get(name) ?? now;
    this.walk.place = { ...this.walk.place, layer: got("layer", layer), head: got("head", head), pos: got("query", pos), key: got("key", key) };
    this.queue();
  };

  private listen_parts(): void {
    const { signal } = this.stop, { stage, jump } = this.page.el, { form } = this.chrome;
    stage.addEventListener("pointermove", (event) => { this.hover = this.find(event); stage.style.cursor = this.hover ? "pointer" : ""; this.queue(false); }, { signal });
    stage.addEventListener("pointerleave", () => { this.hover = null; this.queue(false); }, { signal });
    stage.addEventListener("pointerdown", (event) => { const found = this.find(event); if (found) this.choose(found); }, { signal });
    form.run.addEventListener("click", () => this.submit(), { signal });
    this.chrome.footer.querySelector("button")!.addEventListener("click", () => this.toggle_help(), { signal });
    jump.addEventListener("keydown", this.press_in_jump, { signal });
  }

  private press_in_jump = (event: KeyboardEvent): void => {
    const { jump } = this.page.el;
    event.stopPropagation();
    if (event.key === "Escape") this.close_jump();
    if (event.key !== "Enter") return;
    const wrong = this.walk.jump(/^\d+$/.test(jump.value.trim()) ? `token ${jump.value}` : jump.value);
    this.page.say_jump(wrong);
    if (wrong) return;
    this.changed();
    this.close_jump();
  };

  private close_jump(): void { this.page.el.jump.hidden = true; this.page.say_jump(""); this.page.el.stage_box.focus(); }
  private toggle_help(): void { const { help } = this.page.el; help.hidden = !help.hidden; if (!help.hidden) help.scrollIntoView({ block: "nearest" }); }

  private find(event: PointerEvent): Cell | null {
    const box = this.page.el.stage.getBoundingClientRect(), { layout } = this.page;
    return layout && find_cell(layout, event.clientX - box.left, event.clientY - box.top);
  }

  private choose({ plate, row, column }: Cell): void {
    const at = plate_index(plate, this.walk.place.head, row, column), change: Partial<Place> = {};
    plate.axes.forEach((axis, i) => {
      if (axis === "pos" || axis === "query") change.pos = at[i]!;
      else if (axis === "key") change.key = at[i]!;
      else if (axis !== "head") change.column = at[i]!;
    });
    if (this.walk.now.tensors.includes(plate.name)) this.walk.focus = plate.name;
    this.move(change);
    this.page.el.stage_box.focus({ preventScroll: true });
  }

  private press = (event: KeyboardEvent): void => {
    if (event.target === this.chrome.form.input && event.key === "Enter") { event.preventDefault(); event.stopPropagation(); return this.submit(); }
    if (/^(INPUT|SELECT)$/.test((event.target as HTMLElement).tagName) || event.ctrlKey || event.metaKey || event.altKey) return;
    const commands = event.shiftKey && event.key.startsWith("Arrow") ? this.cell_commands : this.commands, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (/^[\d.-]$/.test(key) && this.page.write_number()) return event.stopPropagation(); // the key itself goes into the field
    if (!commands[key] && !this.reply(key)) return;
    commands[key]?.();
    event.preventDefault();
    event.stopPropagation();
  };

  /** A letter chooses an answer. */
  private reply(key: string): boolean {
    const letter = "abcdefgh".indexOf(key), { question, answers } = this.walk;
    if (letter < 0 || question?.kind !== "choice" || letter >= question.choices.length || answers.has(question.id)) return false;
    this.walk.answer(question, letter);
    this.queue();
    return true;
  }

  /** Shift and an arrow: the chosen cell. */
  private readonly cell_commands: Record<string, () => void> = {
    ArrowUp: () => this.move({ pos: this.walk.place.pos - 1 }), ArrowDown: () => this.move({ pos: this.walk.place.pos + 1 }),
    ArrowLeft: () => { this.walk.move_along(-1); this.changed(); }, ArrowRight: () => { this.walk.move_along(1); this.changed(); },
  };

  private readonly commands: Record<string, () => void> = {
    ArrowRight: () => { this.walk.next(); this.changed(); }, ArrowLeft: () => { this.walk.back(); this.changed(); },
    ArrowDown: () => this.move({ layer: this.walk.place.layer + 1 }), ArrowUp: () => this.move({ layer: this.walk.place.layer - 1 }),
    "[": () => this.move({ head: this.walk.place.head - 1 }), "]": () => this.move({ head: this.walk.place.head + 1 }),
    Home: () => { this.walk.place.layer = 0; this.walk.go_to(0); this.changed(); }, End: () => { this.walk.go_to(this.walk.pass.content.stages.length - 1); this.changed(); },
    "/": () => this.open_jump(), g: () => this.open_jump("token "), "?": () => this.toggle_help(), " ": () => this.play(),
    t: () => { if (this.walk.now.tensors.length < 2) return this.page.say("This stage makes one tensor: T has no other to go to."); this.walk.next_tensor(); this.changed(); }, p: () => { this.walk.predicting = !this.walk.predicting; this.queue(); },
    w: () => this.take_first_away(),
    n: () => { if (!this.walk.has_next_question) return this.page.say("There is no further question here (N), or this one is not answered yet."); this.walk.next_question(); this.changed(); },
    Escape: () => { this.page.el.help.hidden = true; },
  };

  private play(): void {
    if (this.playing) { clearInterval(this.playing); this.playing = undefined; return; }
    const last = () => this.walk.stage === this.walk.pass.content.stages.length - 1;
    this.playing = setInterval(() => { if (last()) return this.play(); this.walk.next(); this.changed(); }, 1500);
  }

  private open_jump(words = ""): void {
    const { jump } = this.page.el;
    jump.hidden = false;
    jump.value = words;
    this.page.say_jump("");
    jump.focus();
  }

  private submit(): void {
    const text = this.chrome.form.input.value;
    this.error = text ? "" : "The text must have at least one token; it is empty. Write something.";
    this.show_error();
    if (text) this.link.ask({ ask: "frame", step: this.board.selection.step, text });
  }
}

/** Where something can be taken away: 2 pos_embed, 4 ln_1. */
function stages_with(walk: Walk, available: Switch[]): string {
  const found = walk.pass.content.stages.filter((stage) => available.some((one) => one.stage === stage.id)).map((one) => `${one.number} ${one.id}`);
  return found.length ? `The stages that have: ${found.join(", ")}.` : "Nor has any other, for this pass was edited.";
}

/** The end of an address as words; an address may be damaged. */
function words_of_link(hash: string): string {
  try { return decodeURIComponent(hash.slice(1)); } catch { return hash.slice(1); }
}

/** A receipt as the kernel sends it: numbers that JSON has not as text, sources as names and spans. */
function revive(raw: any): Receipt {
  const number = (one: unknown): number => (typeof one === "string" ? { nan: NaN, inf: Infinity, "-inf": -Infinity }[one] ?? Number(one) : (one as number));
  const b = raw.b && raw.b.map(number), layered = (one: any) => ({ name: one.name, layer: null, index: one.index });
  return { ...raw, a: raw.a.map(number), b: b ?? null, result: number(raw.result), recorded: number(raw.recorded), error: number(raw.error), bias: raw.bias === null ? null : number(raw.bias),
           steps: raw.steps.map(([what, value]: [string, unknown]) => [what, number(value)]), sources: raw.sources.map(layered), weights: raw.weights.map(layered) };
}
