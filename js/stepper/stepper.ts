// The stepper: a forward pass, one stage at a time, every number with its arithmetic. Owns its state and listeners.
import { footer, header, make, put, text_form } from "../chrome.ts";
import { Details } from "../details.ts";
import type { Host } from "../host.ts";
import { Link } from "../link.ts";
import { decode_view, type RawBoard, type RawFrame, type View } from "../payload.ts";
import { size, type Measure } from "../text.ts";
import { is_dark, read_theme, watch_theme, type Theme } from "../theme.ts";
import { changes, close_up, equation, overview, question_parts, rail, receipt_rows, source_lines, switch_parts, type Answer } from "./parts.ts";
import { Pass, type Question, type Stage, type Switched } from "./pass.ts";
import { draw_plates, find_cell, index_of, lay_out, mark_plates, plate_index, plate_value, shown_tensors, type Layout, type Place, type Plate } from "./plates.ts";
import { receipt, shown, type Receipt } from "./receipt.ts";

const keys: [string[], string][] = [
  [["←", "→"], "stage before, next"], [["↑", "↓"], "layer above, below"], [["[", "]"], "head before, after"], [["Home", "End"], "first, last stage"],
  [["⇧ arrows"], "move the chosen cell"], [["Space"], "play, pause"], [["P"], "predict: hide the result until you answer"], [["/"], "go to a place: L1 H0 stage 8 token 5"],
  [["g"], "go to a token"], [["?"], "this list"],
];

export class Stepper {
  readonly root = make("div", "gv-board gv-stepper");
  private readonly stop = new AbortController();
  private readonly link: Link;
  private readonly details: Details;
  private readonly measure: Measure;
  private board!: RawBoard;
  private raw: RawBoard | null = null;
  private passes: Pass[] = [];
  private text = "";
  private stage = 0;
  private focus = ""; // the tensor whose cell is chosen
  private place: Place = { layer: 0, head: 0, pos: 0, key: 0, column: 0 };
  private hover: { plate: Plate; row: number; column: number } | null = null;
  private predicting = false;
  private answers = new Map<string, Answer>();
  private switched = new Map<string, Switched>();
  private paid = new Map<string, Receipt>(); // receipts of the kernel, where the page holds too little
  private asked = new Set<string>();
  private error = "";
  private playing: ReturnType<typeof setInterval> | undefined;
  private width = 0;
  private theme!: Theme;
  private queued = 0;
  private layout: Layout | null = null;
  private el!: ReturnType<typeof skeleton>;
  private chrome!: { header: ReturnType<typeof header>; form: ReturnType<typeof text_form>; footer: HTMLElement };

  constructor(private readonly host: Host, private readonly page_bytes = 0) {
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
    cancelAnimationFrame(this.queued);
    this.root.remove();
  }

  /** The receipt of a cell, as the page computes it. */
  receipt(tensor: string, layer: number | null, at: number[], view = 0): Receipt | null { return receipt(this.passes[view]!, tensor, layer, at); }

  // --- state ---------------------------------------------------------------------------------------------

  private take_payload(): void {
    this.raw = this.board = this.host.payload();
    this.text = this.board.text;
    this.take_views(this.board.views.map((view) => decode_view(view)));
    const { layer, head, query, key } = this.board.selection;
    this.place = { layer: layer ?? 0, head: head ?? 0, pos: query ?? 0, key: key ?? 0, column: 0 };
    this.build();
    this.go_to(this.stage);
  }

  private take_views(views: View[]): void {
    this.passes = views.filter((view) => view.kind === "stepper").map((view) => new Pass(view, (layer) => this.details.find(view, { layer }, this.board.selection.step, this.text).view));
    for (const { content } of this.passes) if (this.passes.length < 2) content.stages = content.stages.filter((one) => one.id !== "change");
    this.answers.clear(); this.switched.clear(); this.paid.clear(); this.asked.clear();
    for (const one of this.pass.content.switches.results) this.switched.set(`${one.id} ${one.layer} ${one.head}`, one);
  }

  private get pass(): Pass { return this.passes[0]!; }
  private get now(): Stage { return this.pass.content.stages[this.stage]!; }

  /** Choose a stage by its place; its result has the focus. */
  private go_to(stage: number): void {
    this.stage = Math.max(0, Math.min(this.pass.content.stages.length - 1, stage));
    this.focus = this.now.tensors.at(-1) ?? "";
    this.error = "";
    this.changed();
  }

  private open_tensor(name: string, layer: number | null): void {
    const stage = this.pass.content.stages.findIndex((one) => one.tensors.includes(name));
    if (layer !== null) this.place.layer = layer;
    if (stage >= 0) this.go_to(stage);
    this.focus = name;
    this.queue();
  }

  private move(change: Partial<Place>): void {
    const { config, sizes } = this.pass.content, inside = (value: number, n: number) => Math.max(0, Math.min(n - 1, value)), to = { ...this.place, ...change };
    this.place = { layer: inside(to.layer, config.n_layer), head: inside(to.head, config.n_head), pos: inside(to.pos, this.pass.tokens.length), key: inside(to.key, this.pass.tokens.length), column: inside(to.column, Math.max(4 * config.n_embd, this.pass.columns.length, sizes.d_mlp ?? 0)) };
    this.changed();
  }

  private changed(): void {
    const { layer, head, pos, key } = this.place;
    this.host.set({ layer, head, query: pos, key });
    if (!this.host.live && this.width) history.replaceState(null, "", `#${this.state().replace(/ /g, "-")}`);
    this.queue();
  }

  /** Where the reader is, to be dictated: L1 H0 stage 8 token 5. */
  state(): string { return `L${this.place.layer} H${this.place.head} stage ${this.now.number} token ${this.place.pos}`; }

  /** Go to a place in words: any of L1, H0, stage 8 (or its name), token 5. False if no word of it is known. */
  jump(words: string): boolean {
    const text = words.replace(/-/g, " "), number = (pattern: RegExp) => { const found = text.match(pattern); return found ? Number(found[1]) : null; };
    const layer = number(/\bL(\d+)/i), head = number(/\bH(\d+)/i), token = number(/\btoken (\d+)/i), { stages } = this.pass.content;
    const by_number = number(/\bstage (\d+)/i), by_name = stages.findIndex((one) => one.id === text.trim() || text.toLowerCase().includes(`stage ${one.id}`));
    const stage = by_number !== null ? stages.findIndex((one) => one.number === by_number) : by_name;
    if (layer === null && head === null && token === null && stage < 0) return false;
    if (stage >= 0) this.go_to(stage);
    this.move({ ...(layer === null ? {} : { layer }), ...(head === null ? {} : { head }), ...(token === null ? {} : { pos: token }) });
    return true;
  }

  private follow_link = (): void => { if (location.hash) this.jump(decodeURIComponent(location.hash.slice(1))); };

  private get question(): Question | undefined {
    const { layer, head } = this.place, fits = (one: Question) => one.stage === this.now.id && (one.at.layer ?? layer) === layer && (one.at.head ?? head) === head;
    return this.pass.content.questions.find(fits) ?? this.pass.content.questions.find((one) => one.stage === this.now.id);
  }

  private act(name: string, value: Record<string, unknown>): void {
    const asked = JSON.stringify([name, value]);
    if (!this.host.live || this.asked.has(asked)) return;
    this.asked.add(asked);
    this.host.send({ ask: "act", name, value });
  }

  private receive = (content: any, buffers: DataView[] = []): void => {
    if (content.hello) { this.chrome.form.el.hidden = !content.editable; return; }
    if (this.details.receive(content, buffers)) return this.queue();
    if (content.acted === "receipt") { const { cell } = content.receipt; this.paid.set(JSON.stringify(cell), revive(content.receipt)); return this.queue(); }
    if (content.acted === "switch") { const one = content.switch as Switched; this.switched.set(`${one.id} ${one.layer} ${one.head}`, one); return this.queue(); }
    if (!this.link.answers(content)) return;
    this.error = content.error ?? "";
    if (content.frame) this.take_frame(content.frame as RawFrame, buffers);
    requestAnimationFrame(() => this.link.painted());
    this.show_error();
  };

  private take_frame(frame: RawFrame, buffers: DataView[]): void {
    this.text = frame.text;
    this.take_views(frame.views.map((view, i) => (view ? decode_view(view, buffers) : decode_view(this.board.views[i]!))));
    this.fill_tokens();
    this.move({ pos: this.pass.tokens.length - 1, key: 0 });
  }

  // --- page ----------------------------------------------------------------------------------------------

  private build(): void {
    const { board } = this, weight = this.page_bytes ? `${size(this.page_bytes)} in this page` : board.cost;
    this.chrome = { header: header(board), form: text_form(board), footer: footer(this.pass.view.checks, weight) };
    this.chrome.form.el.hidden = !board.editable || !this.host.live;
    this.chrome.header.saved.hidden = true;
    this.el = skeleton();
    for (const stale of this.el.help.children) stale.remove();
    const list = make("dl");
    for (const [caps, words] of keys) { const term = make("dt"); term.append(...caps.map((cap) => make("kbd", "", cap))); list.append(term, make("dd", "", words)); }
    this.el.help.append(make("h3", "gv-title", "Keys"), list);
    this.chrome.header.steps.append(this.el.layers, this.el.heads);
    this.root.replaceChildren(this.chrome.header.el, this.chrome.form.el, this.el.tokens, this.el.jump, this.el.help, this.el.model, this.el.main, this.el.side, this.el.rail, this.chrome.footer, this.el.live);
    this.fill_tokens();
    this.listen_parts();
  }

  private fill_tokens(): void {
    this.el.tokens.replaceChildren(...this.pass.tokens.slice(0, 200).map((token, i) => {
      const chip = make("button", "gv-chip", token.slice(0, 40));
      chip.type = "button"; chip.tabIndex = -1;
      chip.setAttribute("aria-label", `position ${i}: ${token.slice(0, 40)}`);
      chip.addEventListener("click", () => this.move({ pos: i }));
      return chip;
    }), make("span", "gv-count", `${this.pass.tokens.length} tokens`));
  }

  private set_theme = (): void => {
    const dark = is_dark(this.root);
    this.root.classList.toggle("gv-dark", dark);
    this.theme = read_theme(this.root, dark);
    if (this.width) this.queue();
  };

  private queue(): void {
    if (!this.queued) this.queued = requestAnimationFrame(() => { this.queued = 0; this.draw(); });
  }

  private draw(): void {
    if (!this.theme.ink) this.set_theme();
    if (!this.theme.ink) return this.queue();
    const narrow = this.width < 1000;
    this.root.dataset.columns = narrow ? "1" : "3";
    this.root.classList.toggle("gv-narrow", this.width < 700);
    this.draw_words();
    this.draw_plates();
    this.draw_side();
    this.root.dataset.drawn = this.state(); // tests wait for it
  }

  private here = (name: string): boolean => !this.pass.layered(name) || this.pass.slab(name === "raw_scores" ? "scores" : name, this.layer_of(name)) !== null;
  private layer_of = (name: string): number | null => shown_tensors(this.pass, this.now, this.place.layer).find((one) => one.name === name)?.layer ?? (this.pass.layered(name) ? this.place.layer : null);

  private draw_words(): void {
    const { el, now, pass, place } = this, go = (to: { stage?: string; layer?: number }) => { if (to.layer !== undefined) this.place.layer = to.layer; this.go_to(pass.content.stages.findIndex((one) => one.id === to.stage)); };
    put(el.title, `${now.title}`);
    put(el.number, `stage ${now.number}${now.in_block ? ` · layer L${place.layer} of ${pass.n_layer}` : ""}${pass.axes(this.focus || "embed").includes("head") ? ` · head ${place.head} of ${pass.content.config.n_head}` : ""}`);
    put(el.sentence, now.sentence);
    put(el.misconception, now.misconception);
    put(el.state, this.state());
    el.equation.replaceChildren(...equation(pass, now, this.focus, (name) => { this.focus = name; this.queue(); }));
    const scope = `${now.number} ${place.layer}`;
    if (el.model.dataset.at !== scope) {
      el.model.dataset.at = scope;
      el.boxes.replaceChildren(...overview(pass, now, place.layer, go));
      el.boxes.querySelector(".gv-here")?.scrollIntoView?.({ block: "nearest" });
      el.rail.replaceChildren(...rail(pass, now, place.layer, go));
    }
    for (const [holder, name, n] of [[el.layers, "layer", pass.n_layer], [el.heads, "head", pass.content.config.n_head]] as const) this.picker(holder, name, n);
    el.tokens.querySelectorAll(".gv-chip").forEach((chip, i) => chip.classList.toggle("gv-here", i === place.pos));
  }

  /** layer 0 [1] 2 3 */
  private picker(holder: HTMLElement, name: "layer" | "head", n: number): void {
    const at = this.place[name];
    if (holder.childElementCount !== Math.min(n, 16) + 1) {
      holder.replaceChildren(make("span", "", name), ...Array.from({ length: Math.min(n, 16) }, (_, i) => {
        const one = make("button", "", String(i));
        one.type = "button"; one.tabIndex = -1;
        one.addEventListener("click", () => this.move({ [name]: i }));
        return one;
      }));
    }
    [...holder.children].slice(1).forEach((one, i) => one.classList.toggle("gv-here", i === at));
    holder.firstElementChild!.textContent = n > 16 ? `${name} ${at} of ${n}` : name;
  }

  private draw_plates(): void {
    const { el, pass, place, theme, now } = this, width = Math.max(280, el.stage.parentElement!.clientWidth || 600), missing = now.tensors.concat(this.focus).filter((name) => name && !this.here(name));
    el.missing.hidden = !missing.length;
    put(el.missing, missing.length ? this.details.find(pass.view, { layer: place.layer }, this.board.selection.step, this.text).words : "");
    this.layout = !this.focus || missing.length ? null : lay_out(pass, now, place.layer, width, this.measure, theme);
    el.stage.hidden = !this.layout;
    const open = this.question && this.answers.get(this.question.id), hidden = this.predicting && this.question && !open ? now.tensors.at(-1)! : null;
    const paid = hidden ? null : this.current_receipt();
    this.show_receipt(paid, hidden !== null);
    if (!this.layout) {
      el.closeup.replaceChildren(...(now.id === "change" ? changes(pass, this.passes[1]!, (name, layer) => this.open_tensor(name, layer)) : []));
      put(el.closeup_title, now.id === "change" ? "relative change of each tensor, largest first: |this − other| / |this|" : "");
      return put(el.readout, "");
    }
    for (const canvas of [el.base, el.over]) {
      const ratio = devicePixelRatio || 1, w = Math.round(this.layout.width * ratio), h = Math.round(this.layout.height * ratio);
      if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
    }
    el.stage.style.width = `${this.layout.width}px`; el.stage.style.height = `${this.layout.height}px`;
    const name = JSON.stringify([now.number, place.layer, place.head, width, theme.paper, theme.ink, hidden, this.text, this.paid.size]);
    if (el.stage.dataset.name !== name) {
      if (el.stage.dataset.stage !== String(now.number)) this.animate();
      el.stage.dataset.name = name; el.stage.dataset.stage = String(now.number);
      paint(el.base, (ctx) => draw_plates(ctx, this.layout!, pass, place, theme, hidden));
    }
    paint(el.over, (ctx) => mark_plates(ctx, this.layout!, pass, place, theme, this.measure, this.focus, paid?.sources ?? [], this.hover));
    const at = index_of(pass, this.focus, place);
    el.closeup.replaceChildren(...(hidden ? [] : close_up(pass, this.focus, this.layer_of(this.focus), at, theme, (column) => this.choose_last(column))));
    put(el.closeup_title, `${this.cell_words(this.focus, at)}: its row`);
    this.show_readout(hidden);
  }

  /** The tensors of the next stage come in from the side of the last one. */
  private animate(): void {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches || this.playing) return;
    this.el.stage.animate?.([{ transform: "translateX(24px)", opacity: 0.2 }, { transform: "none", opacity: 1 }], { duration: 220, easing: "ease-out" });
  }

  private current_receipt(): Receipt | null {
    if (!this.focus || !this.here(this.focus)) return null;
    const layer = this.layer_of(this.focus), at = index_of(this.pass, this.focus, this.place), own = receipt(this.pass, this.focus, layer, at);
    if (own) return own;
    const index = layer === null ? at : [layer, ...at], name = JSON.stringify({ tensor: this.focus, index });
    const found = this.paid.get(name);
    if (!found) this.act("receipt", { tensor: this.focus, index });
    return found ?? null;
  }

  private cell_words(name: string, at: number[]): string {
    const axes = this.pass.axes(name), layer = this.layer_of(name);
    return `${name}[${[...(layer === null ? [] : [`layer ${layer}`]), ...axes.map((axis, i) => `${axis === "d_vocab" ? `token ‘${this.pass.columns[at[i]!]}’` : `${axis} ${at[i]}`}`)].join(", ")}]`;
  }

  private show_readout(hidden: string | null): void {
    const { hover, pass, place } = this;
    if (hover && hover.plate.name !== hidden) {
      const value = plate_value(pass, hover.plate, place, hover.row, hover.column), at = plate_index(pass, hover.plate, place, hover.row, hover.column);
      return put(this.el.readout, `${this.cell_words(hover.plate.name, at)} = ${exact(value)}`);
    }
    const at = index_of(pass, this.focus, place), words = this.cell_words(this.focus, at);
    put(this.el.readout, hidden === this.focus ? `${words}: predict first, then look` : `${words} = ${exact(pass.value(this.focus, this.layer_of(this.focus), ...at))}${this.beside(at)}`);
  }

  /** The same cell of the second pass, and the difference. */
  private beside(at: number[]): string {
    const other = this.passes[1];
    if (!other) return "";
    const one = this.pass.value(this.focus, this.layer_of(this.focus), ...at), two = other.value(this.focus, this.layer_of(this.focus), ...at);
    return `   ·   ${other.content.label || "second pass"}: ${exact(two)}, difference ${exact(two - one)}`;
  }

  private show_receipt(paid: Receipt | null, hidden: boolean): void {
    const { el } = this, at = this.focus ? index_of(this.pass, this.focus, this.place) : [];
    put(el.receipt_cell, this.focus ? this.cell_words(this.focus, at) : "");
    const why = hidden ? "hidden until you have answered" : this.host.live ? "asking the kernel …" : `this page holds too little for it. ${this.pass.content.left_out.join(" ")}`;
    el.receipt.replaceChildren(...(paid && !hidden ? receipt_rows(paid, this.pass.content.units[this.focus] ?? "") : [make("p", "gv-note", why)]));
  }

  private draw_side(): void {
    const { el, pass, now, place } = this, lines = this.focus && now.tensors.includes(this.focus) ? pass.content.tensors[this.focus]!.lines : now.lines, name = `${now.number} ${this.focus}`;
    if (el.source.dataset.name !== name) {
      el.source.dataset.name = name;
      put(el.scope, lines[0]?.scope ?? "");
      el.source.replaceChildren(...source_lines(pass, lines));
    }
    const question = this.question;
    el.source.parentElement!.hidden = !lines.length;
    el.receipt.parentElement!.hidden = !this.focus;
    el.predict.hidden = !question;
    put(el.predict_words, `${this.predicting ? "the result is hidden until you answer · P shows it" : "P hides the result until you answer"}${this.answers.size ? ` · ${[...this.answers.values()].filter((one) => one.right).length} of ${this.answers.size} right` : ""}`);
    const asked = question ? `${question.id} ${this.answers.has(question.id)}` : "";
    if (question && el.question.dataset.name !== asked) {
      el.question.dataset.name = asked;
      el.question.replaceChildren(...question_parts(question, this.answers.get(question.id), (given) => this.answer(question, given)));
    }
    const switches = pass.content.switches.available.filter((one) => one.stage === now.id);
    el.breaks.hidden = !switches.length;
    el.switches.replaceChildren(...switches.map((one) => {
      const layer = one.by.includes("layer") ? place.layer : null, head = one.by.includes("head") ? place.head : null;
      const result = this.switched.get(`${one.id} ${layer} ${head}`), asked = this.asked.has(JSON.stringify(["switch", { id: one.id, layer, head }]));
      return switch_parts(one, result, asked ? "asking the kernel …" : this.host.live ? "" : "not in this page: the notebook runs it", () => { this.act("switch", { id: one.id, layer, head }); this.queue(); });
    }));
    put(el.live, `${this.state()}. ${now.title}. ${now.sentence} ${el.readout.textContent}`);
  }

  private answer(question: Question, given: number): void {
    const right = question.kind === "choice" ? given === question.answer : Math.abs(given - question.answer) <= question.tolerance;
    this.answers.set(question.id, { given, right });
    this.queue();
  }

  private show_error(): void {
    this.chrome.form.error.hidden = !this.error;
    put(this.chrome.form.error, this.error ? `✕ ${this.error}` : "");
  }

  // --- listeners -----------------------------------------------------------------------------------------

  private listen(): void {
    const { signal } = this.stop;
    watch_theme(this.set_theme, signal);
    const observer = new ResizeObserver(() => { if (this.root.clientWidth && this.root.clientWidth !== this.width) { this.width = this.root.clientWidth; this.queue(); } });
    observer.observe(this.root);
    signal.addEventListener("abort", () => observer.disconnect());
    this.root.addEventListener("keydown", this.press, { signal });
    if (!this.host.live) window.addEventListener("hashchange", this.follow_link, { signal });
    document.fonts?.ready.then(() => { if (!signal.aborted) { this.el.stage.dataset.name = ""; this.queue(); } });
    this.host.on_change(this.pull);
    this.host.on_message(this.receive);
    if (this.host.live) this.host.send({ ask: "hello" });
  }

  private pull = (): void => {
    if (this.host.payload() !== this.raw) this.take_payload();
    const { layer, head, pos, key } = this.place, got = (name: "layer" | "head" | "query" | "key", now: number) => this.host.get(name) ?? now;
    this.place = { ...this.place, layer: got("layer", layer), head: got("head", head), pos: got("query", pos), key: got("key", key) };
    this.queue();
  };

  private listen_parts(): void {
    const { signal } = this.stop, { stage, jump } = this.el, { form } = this.chrome;
    stage.addEventListener("pointermove", (event) => { this.hover = this.find(event); stage.style.cursor = this.hover ? "pointer" : ""; this.queue(); }, { signal });
    stage.addEventListener("pointerleave", () => { this.hover = null; this.queue(); }, { signal });
    stage.addEventListener("pointerdown", (event) => { const found = this.find(event); if (found) this.choose(found); }, { signal });
    form.run.addEventListener("click", () => this.submit(), { signal });
    this.chrome.footer.querySelector("button")!.addEventListener("click", () => this.toggle_help(), { signal });
    jump.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter" && this.jump(/^\d+$/.test(jump.value.trim()) ? `token ${jump.value}` : jump.value)) this.close_jump();
      else if (event.key === "Enter") this.el.jump.setAttribute("aria-invalid", "true");
      if (event.key === "Escape") this.close_jump();
    }, { signal });
  }

  private close_jump(): void { this.el.jump.hidden = true; this.el.stage_box.focus(); }
  private toggle_help(): void { this.el.help.hidden = !this.el.help.hidden; }

  private find(event: PointerEvent): { plate: Plate; row: number; column: number } | null {
    const box = this.el.stage.getBoundingClientRect();
    return this.layout ? find_cell(this.layout, event.clientX - box.left, event.clientY - box.top) : null;
  }

  private choose({ plate, row, column }: { plate: Plate; row: number; column: number }): void {
    const at = plate_index(this.pass, plate, this.place, row, column), change: Partial<Place> = {};
    this.pass.axes(plate.name).forEach((axis, i) => {
      if (axis === "pos" || axis === "query") change.pos = at[i]!;
      else if (axis === "key") change.key = at[i]!;
      else if (axis !== "head") change.column = at[i]!;
    });
    if (this.now.tensors.includes(plate.name)) this.focus = plate.name;
    this.move(change);
    this.el.stage_box.focus({ preventScroll: true });
  }

  private choose_last(column: number): void { this.move(this.pass.axes(this.focus).at(-1) === "key" ? { key: column } : this.pass.axes(this.focus).at(-1) === "pos" ? { pos: column } : { column }); }

  private press = (event: KeyboardEvent): void => {
    if (event.target === this.chrome.form.input && event.key === "Enter") { event.preventDefault(); event.stopPropagation(); return this.submit(); }
    if (/^(INPUT|SELECT)$/.test((event.target as HTMLElement).tagName) || event.ctrlKey || event.metaKey || event.altKey) return;
    const done = event.shiftKey && event.key.startsWith("Arrow") ? this.walk(event.key) : this.command(event.key);
    if (!done) return;
    event.preventDefault();
    event.stopPropagation();
  };

  /** Shift and an arrow: the chosen cell. */
  private walk(key: string): boolean {
    const axis = this.focus ? this.pass.axes(this.focus).at(-1)! : "pos", by = key === "ArrowLeft" || key === "ArrowUp" ? -1 : 1, { place } = this;
    if (key === "ArrowUp" || key === "ArrowDown" || axis === "pos") this.move({ pos: place.pos + by });
    else if (axis === "key") this.move({ key: place.key + by });
    else this.move({ column: Math.min(this.pass.shape(this.focus).at(-1)! - 1, place.column) + by });
    return true;
  }

  private command(key: string): boolean {
    const { place } = this, last = this.pass.content.stages.length - 1, commands: Record<string, () => void> = {
      ArrowRight: () => this.next(), ArrowLeft: () => this.back(), ArrowDown: () => this.move({ layer: place.layer + 1 }), ArrowUp: () => this.move({ layer: place.layer - 1 }),
      "[": () => this.move({ head: place.head - 1 }), "]": () => this.move({ head: place.head + 1 }), Home: () => { this.place.layer = 0; this.go_to(0); }, End: () => this.go_to(last),
      "/": () => this.open_jump(), g: () => this.open_jump("token "), "?": () => this.toggle_help(), " ": () => this.play(), p: () => this.predict(), P: () => this.predict(), Escape: () => { this.el.help.hidden = true; },
    };
    const letter = "abcdefgh".indexOf(key.toLowerCase()), question = this.question;
    if (!commands[key] && letter >= 0 && question?.kind === "choice" && letter < question.choices.length && !this.answers.has(question.id)) { this.answer(question, letter); return true; }
    if (!commands[key]) return false;
    commands[key]!();
    return true;
  }

  /** The next stage; after a block's last one the next block begins. */
  private next(): void {
    const { stages } = this.pass.content, first = stages.findIndex((one) => one.in_block), end = stages.findLastIndex((one) => one.in_block);
    if (this.stage === end && this.place.layer < this.pass.n_layer - 1) { this.place.layer++; return this.go_to(first); }
    this.go_to(this.stage + 1);
  }

  private back(): void {
    const { stages } = this.pass.content, first = stages.findIndex((one) => one.in_block), end = stages.findLastIndex((one) => one.in_block);
    if (this.stage === first && this.place.layer > 0) { this.place.layer--; return this.go_to(end); }
    if (this.stage === end + 1) this.place.layer = this.pass.n_layer - 1;
    this.go_to(this.stage - 1);
  }

  private play(): void {
    if (this.playing) { clearInterval(this.playing); this.playing = undefined; return this.queue(); }
    this.playing = setInterval(() => { if (this.stage === this.pass.content.stages.length - 1) this.play(); else this.next(); }, 1500);
  }

  private predict(): void { this.predicting = !this.predicting; this.queue(); }

  private open_jump(words = ""): void {
    this.el.jump.hidden = false;
    this.el.jump.value = words;
    this.el.jump.removeAttribute("aria-invalid");
    this.el.jump.focus();
  }

  private submit(): void {
    const text = this.chrome.form.input.value;
    this.error = text ? "" : "The text must have at least one token; it is empty. Write something.";
    this.show_error();
    if (text) this.link.ask({ ask: "frame", step: this.board.selection.step, text });
  }
}

const exact = (value: number): string => (Number.isFinite(value) && Math.abs(value) >= 5e-4 ? value.toFixed(6).replace("-", "−") : shown(value));

function paint(canvas: HTMLCanvasElement, draw: (ctx: CanvasRenderingContext2D) => void): void {
  const ctx = canvas.getContext("2d")!, ratio = devicePixelRatio || 1;
  ctx.setTransform(1, 0, 0, 1, 0, 0);
  ctx.clearRect(0, 0, canvas.width, canvas.height);
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  draw(ctx);
}

/** A receipt as the kernel sends it: numbers that JSON has not as text, sources as names and spans. */
function revive(raw: any): Receipt {
  const number = (one: unknown): number => (typeof one === "string" ? { nan: NaN, inf: Infinity, "-inf": -Infinity }[one] ?? Number(one) : (one as number));
  const b = raw.b && raw.b.map(number), layered = (one: any) => ({ name: one.name, layer: null, index: one.index });
  return { ...raw, a: raw.a.map(number), b: b ?? null, result: number(raw.result), recorded: number(raw.recorded), error: number(raw.error), bias: raw.bias === null ? null : number(raw.bias),
           steps: raw.steps.map(([what, value]: [string, unknown]) => [what, number(value)]), sources: raw.sources.map(layered), weights: raw.weights.map(layered) };
}

function panel(title: string, subtitle: HTMLElement | null, ...children: HTMLElement[]): HTMLElement {
  const section = make("section", "gv-panel"), head = make("div", "gv-heading");
  head.append(make("h3", "gv-title", title), ...(subtitle ? [subtitle] : []));
  section.append(head, ...children);
  return section;
}

/** The elements that stay; their contents change with the stage. */
function skeleton() {
  const div = (name: string) => make("div", name), note = () => make("span", "gv-subtitle");
  const base = make("canvas", "gv-canvas"), over = make("canvas", "gv-canvas gv-over"), stage = div("gv-plates"), stage_box = div("gv-stage-box");
  for (const canvas of [base, over]) canvas.setAttribute("aria-hidden", "true");
  stage.append(base, over);
  stage_box.tabIndex = 0;
  stage_box.setAttribute("role", "group");
  stage_box.setAttribute("aria-label", "the stage: arrow keys walk through the forward pass, question mark lists the keys");
  stage_box.append(stage);
  const title = make("h2", "gv-stage-title"), number = note(), sentence = make("p", "gv-sentence"), equation = div("gv-equation"), readout = make("p", "gv-readout-line"), missing = make("p", "gv-note");
  const closeup = div("gv-closeup"), closeup_title = make("p", "gv-subtitle"), misconception = make("p", "gv-misconception"), main = make("main", "gv-main"), state = make("code", "gv-state");
  const top = div("gv-stage-head");
  top.append(title, number, state);
  main.append(top, sentence, equation, missing, stage_box, readout, closeup_title, closeup, misconception);
  const boxes = div("gv-boxes"), model = panel("Model", null, boxes), scope = note(), source = div("gv-source"), receipt_cell = note(), receipt = div("gv-receipt");
  const predict_words = note(), question = div("gv-question"), switches = div("gv-switches"), side = make("aside", "gv-side");
  const predict = panel("Predict", predict_words, question), breaks = panel("What breaks without it", null, switches);
  model.classList.add("gv-model");
  side.append(panel("model.py", scope, source), panel("Receipt", receipt_cell, receipt), predict, breaks);
  const jump = make("input", "gv-jump"), help = div("gv-help"), live = make("p", "gv-live");
  jump.type = "text"; jump.hidden = true; jump.placeholder = "L1 H0 stage 8 token 5, or a stage’s name";
  jump.setAttribute("aria-label", "go to a place, such as L1 H0 stage 8 token 5");
  help.hidden = true;
  live.setAttribute("aria-live", "polite");
  return { base, over, stage, stage_box, title, number, sentence, equation, readout, missing, closeup, closeup_title, misconception, main, state, boxes, model, scope, source, receipt_cell, receipt,
           predict, predict_words, question, breaks, switches, side, jump, help, live, tokens: div("gv-tokens"), layers: div("gv-picker"), heads: div("gv-picker"), rail: div("gv-rail") };
}
