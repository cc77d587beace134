// The board: the only file with state of the reader and listeners. All of them end with one AbortController.
import { panels } from "gptviz:views";
import { arrange, gap, type Arrangement } from "./arrange.ts";
import { footer, header, help, make, mount, put, show_heading, show_lines, show_steps, step_controls, text_form, without_kernel, type Mounted } from "./chrome.ts";
import { Columns, type Placing } from "./columns.ts";
import { show_controls } from "./controls.ts";
import { Details, is_left_out, left_out, place_of } from "./details.ts";
import { Frames } from "./frames.ts";
import type { Host } from "./host.ts";
import { Link } from "./link.ts";
import { repaint } from "./paint.ts";
import type { RawBoard, RawFrame, Selection, View } from "./payload.ts";
import type { Act, Corner, Hit, Options, Patch } from "./panel.ts";
import { follow, look_at, nearest, pattern_of, tokens_of, type Look, type Scene } from "./scene.ts";
import { Player } from "./player.ts";
import { compared_words, whose } from "./shown.ts";
import { since } from "./since.ts";
import { slider, step_words } from "./slider.ts";
import { size, whole, type Measure } from "./text.ts";
import { is_dark, read_theme, watch_theme, type Theme } from "./theme.ts";

const choices = ["step", "layer", "head", "query", "key"] as const;

export class Board {
  readonly root = make("div", "gv-board");
  private readonly stop = new AbortController();
  private readonly link: Link;
  private readonly details: Details;
  private readonly options = new Map<string, Options>(); // of each panel, by its name
  private readonly columns = new Columns(this.root);
  private readonly live_words = make("p", "gv-live");
  private readonly help = help();
  private readonly notice = make("div", "gv-notice"); // why a key did nothing, over the panel that had it
  private readonly saved_picture = make("style");
  private readonly measure: Measure;
  private board!: RawBoard;
  private raw: RawBoard | null = null;
  private mounted: Mounted[] = [];
  private readonly kept = new Map<string, Mounted>(); // every panel made since the payload came, by name
  private readonly frames = new Frames();
  private readonly player = new Player(() => this.advance(), () => this.queue());
  private chrome!: { header: ReturnType<typeof header>; form: ReturnType<typeof text_form>; footer: HTMLElement; steps: ReturnType<typeof step_controls> };
  private shown: View[] = []; // the frame, before the fresh views take the place of their kinds
  private views: View[] = [];
  private detail_count = 0;
  private frame_count = 0; // grows with each picture shown: part of what a layout depends on
  private selection: Selection = { step: null, layer: null, head: null, query: null, key: null };
  private hover: Partial<Selection> = {};
  private spot: { mounted: Mounted; at: unknown } | null = null; // under the mouse, and of no concern to other panels
  private look: Partial<Look> = {};
  private corner: Corner = { query: 0, key: 0 };
  private theme!: Theme;
  private theme_name = "";
  private width = 0;
  private place!: Arrangement;
  private queued = 0;
  private gripped: { mounted: Mounted; hit: Hit } | null = null;
  private active: Mounted | null = null; // the panel whose sentence is read aloud

  constructor(private readonly host: Host, private readonly page_weight = "") {
    this.link = new Link((message) => host.send(message));
    this.details = new Details(host.live, (message) => host.send(message));
    const context = make("canvas").getContext("2d")!;
    this.measure = (text, font) => { context.font = font; return context.measureText(text).width; };
    this.root.dataset.lmSuppressShortcuts = "true"; // JupyterLab's own keys rest while the board has the focus
    this.live_words.setAttribute("aria-live", "polite");
    this.take_payload();
  }

  attach(el: HTMLElement): void {
    el.append(this.root);
    this.set_theme();
    this.hide_picture();
    this.listen();
    this.resize(this.root.clientWidth || el.clientWidth || 960);
  }

  close(): void {
    this.stop.abort();
    this.link.stop();
    this.details.stop();
    this.player.stop();
    cancelAnimationFrame(this.queued);
    this.root.remove();
  }

  // --- state ---------------------------------------------------------------------------------------------

  private take_payload(): void {
    const typed = this.unsent();
    this.raw = this.host.payload();
    this.board = this.raw;
    this.take_choices();
    this.kept.clear();
    this.player.stop();
    this.views = this.shown = this.frames.begin(this.board);
    this.frame_count++;
    this.build();
    typed?.(this.chrome.form.input);
  }

  /** What the reader has typed and not yet seen the answer of, to be written into another field. */
  private unsent(): ((input: HTMLInputElement) => void) | null {
    const before = this.chrome?.form.input;
    if (!before || before.value === this.frames.text.replace(/[\r\n]/g, "")) return null; // a field has one line
    const { value, selectionStart, selectionEnd } = before, focused = before.matches(":focus");
    return (input) => {
      input.value = value;
      if (focused) { input.focus(); input.setSelectionRange(selectionStart, selectionEnd); }
    };
  }

  /** What the kernel says is chosen; a step chosen there ends the waiting for another one. */
  private take_choices(): void {
    const before = this.selection.step;
    for (const name of choices) this.selection[name] = this.host.get(name) ?? null;
    if (this.selection.step !== before) this.following = null;
  }

  private show_step(): void {
    const step = this.selection.step, views = this.frames.at(step);
    if (views) this.show(views);
    else if (this.host.live && this.board.steps.length) this.request(step);
    if (views) this.fetch_since();
  }

  /** The step to compare with; its frame is asked for when that of the shown step is here. */
  private get since_step(): number | null { return this.options_of(slider.name).since ?? null; }

  private fetch_since(): void {
    const step = this.since_step;
    if (step !== null && this.host.live && !this.frames.at(step)) this.request(step);
  }

  /** Compare with a step, or with none: heads and text then show the change. */
  private compare_with(step: number | null): void {
    const before = this.since_step;
    this.set_options(slider.name, { since: step });
    if ((before === null) !== (step === null)) this.set_options("head", { compare: step === null ? "this" : "difference" });
    this.fetch_since();
    this.show(this.shown);
    const change = this.views.find((view) => view.kind === "tokens")?.content?.change;
    if ((before === null) !== (step === null)) this.set_options("text", { colour: change ?? "loss" });
  }

  /** One recorded step on, when the last one is here; whether there is a further one. */
  private advance(): boolean {
    const { steps } = this.board, at = steps.indexOf(nearest(steps, this.selection.step ?? this.last_step()));
    if (this.link.busy) return true;
    if (at + 1 < steps.length) this.choose({ step: steps[at + 1]! });
    return at + 2 < steps.length;
  }

  private play(): void {
    if (!this.player.playing && (this.selection.step ?? this.last_step()) >= this.last_step()) this.choose({ step: this.board.steps[0]! });
    this.player.toggle(this.board.steps.length);
  }

  private show(views: View[]): void {
    this.shown = views;
    const then = this.since_step, newest = this.frames.newest(views);
    const fresh = then === null ? newest : since(newest, this.frames.at(then), this.selection.step ?? this.last_step(), then);
    if (fresh.every((view, i) => view === this.views[i]) && fresh.length === this.views.length) return;
    const kinds = String(this.views.map((view) => view.kind));
    this.views = fresh;
    if (kinds !== String(fresh.map((view) => view.kind))) this.mount_panels();
    this.frame_count++;
    this.root.classList.remove("gv-loading");
    this.queue();
  }

  private wanted: string | null = null; // a typed text that is not answered yet: the steps of a training must not ask for the old one
  private following: number | null = null; // the last step, while its frame is waited for

  private request(step: number | null): void {
    this.link.ask({ ask: "frame", step, text: this.wanted ?? this.frames.text });
    const asked = this.frame_count;
    const missing = (): boolean => this.wanted !== null || !this.frames.at(this.selection.step);
    setTimeout(() => { if (this.link.busy && missing() && asked === this.frame_count) this.root.classList.add("gv-loading"); }, 200);
  }

  private receive = (content: any, buffers: DataView[] = []): void => {
    if (content.hello) return this.greeted(content, buffers);
    if (content.push) return this.pushed(content, buffers);
    if (this.details.receive(content, buffers)) { this.detail_count++; return this.queue(); }
    if (content.acted || (content.error && content.id == null)) return this.acted(content, buffers);
    if (!this.link.answered(content)) return;
    this.root.classList.remove("gv-loading");
    this.show_error(content.error ?? "");
    if (content.error || content.frame?.text === this.wanted) this.wanted = null;
    if (content.frame) this.accept(content.frame as RawFrame, buffers);
    if (!content.error && this.following !== null) this.follow(this.following); // a later wish may have overtaken its request
    requestAnimationFrame(() => requestAnimationFrame(() => this.link.painted())); // the second comes after the paint
  };

  private accept(frame: RawFrame, buffers: DataView[]): void {
    if (frame.text !== this.frames.text) this.choose({ query: null, key: null });
    const views = this.frames.take(frame, buffers);
    if (frame.step === this.following) this.choose({ step: frame.step });
    if (frame.step === this.selection.step || !this.board.steps.length) { this.show(views); this.fetch_since(); }
    else if (frame.step === this.since_step) this.compare_with(frame.step); // shows what was waited for
  }

  /** News of a training: more steps, and views that belong to every step. Whoever is at the last step goes on to the new last. */
  private freshen(content: any, buffers: DataView[]): void {
    const at_edge = this.following !== null || (this.selection.step ?? this.last_step()) >= this.last_step();
    this.frames.freshen(content.fresh ?? [], buffers);
    if (content.steps) this.board.steps = content.steps;
    if (content.frame) this.accept(content.frame, buffers);
    if (content.steps && at_edge) this.follow(this.last_step());
    this.show(this.shown);
  }

  /** Go on to the last step when its frame is here: where frames take longer than steps, each that comes is shown. */
  private follow(step: number): void {
    if (this.frames.at(step)) return this.choose({ step });
    this.following = step;
    this.request(step);
  }

  private pushed(content: any, buffers: DataView[]): void {
    this.freshen(content, buffers);
    requestAnimationFrame(() => requestAnimationFrame(() => this.host.send({ ack: content.push })));
  }

  private alive = false;
  private greeted(content: any, buffers: DataView[]): void {
    this.alive = true;
    this.freshen(content, buffers);
    this.chrome.form.el.hidden = !content.editable;
    this.chrome.header.saved.hidden = true;
  }

  /** Choose by click or key: kept in the traits of the widget. */
  private choose(change: Partial<Selection>): void {
    const before = this.selection;
    this.selection = { ...before, ...change };
    if ("step" in change) this.following = null;
    const changed = Object.fromEntries(choices.filter((name) => before[name] !== this.selection[name]).map((name) => [name, this.selection[name]]));
    if (!Object.keys(changed).length) return;
    this.host.set(changed);
    if ("step" in changed) this.show_step();
    this.queue();
  }

  private apply(patch: Patch): void {
    if (patch.options?.since !== undefined) this.compare_with(patch.options.since);
    else if (patch.options && this.active) this.set_options(this.active.panel.name, patch.options);
    if (patch.selection) {
      this.choose(patch.selection);
      if (patch.selection.query !== undefined || patch.selection.key !== undefined) this.recentre();
    }
    if (patch.window) this.move(patch.window);
    if (patch.act) this.act(patch.act);
    this.queue();
  }

  private set_options(name: string, change: Options): void {
    this.options.set(name, { ...this.options.get(name), ...change });
    this.queue();
  }

  private act(act: Act): void { this.host.send({ ask: "act", ...act }); }

  /** What an action answered: an error in words, options of panels, a text to run. */
  private acted(content: any, buffers: DataView[]): void {
    this.show_error(content.error ?? "");
    this.freshen(content, buffers);
    for (const [panel, change] of Object.entries(content.options ?? {})) this.set_options(panel, change as Options);
    if (content.text === undefined) return;
    this.chrome.form.input.value = content.text;
    this.submit();
  }

  private move(to: Partial<Corner>): void {
    const wish = { ...this.corner, ...to }, n = this.place.window, last = tokens_of(this.views).length - n;
    this.corner = { query: Math.max(0, Math.min(last, wish.query)), key: Math.max(0, Math.min(last, wish.key)) };
  }

  private recentre(): void {
    const look = look_at(this.selection, {}, this.look, this.views, this.last_step());
    this.corner = follow(this.corner, look, this.place.window, tokens_of(this.views).length);
  }

  private refresh_look(): void {
    this.look = look_at(this.selection, this.hover, this.look, this.views, this.last_step());
  }

  private last_step = () => this.board.steps.at(-1) ?? 0;

  /** The kernel changed a trait; several may come one by one, the drawing waits for all. */
  private pull = (): void => {
    if (this.host.payload() !== this.raw) { this.take_payload(); this.resize(this.width); }
    this.hide_picture();
    this.take_choices();
    this.show_step();
    this.recentre();
    this.queue();
  };

  /** The picture beside the board is for readers without a kernel: while the board lives, its output is hidden. */
  private hide_picture(): void {
    const end = this.host.picture();
    if (!/^[\w+/=]+$/.test(end)) return; // also in an exported page, whose policy allows no further style
    this.saved_picture.textContent = `.jp-OutputArea-child:has(img[src$="${end}"]) { display: none; }`;
    this.root.append(this.saved_picture);
  }

  // --- page ----------------------------------------------------------------------------------------------

  private build(): void {
    const { board } = this, checks = this.views.flatMap((view) => view.checks);
    const bytes = this.views.flatMap((view) => Object.values(view.arrays)).reduce((sum, array) => sum + array.values.byteLength, 0);
    const weight = this.page_weight || `${size(bytes)} sent`;
    this.chrome = { header: header(board), form: text_form(board), footer: footer(checks, [board.cost, weight, board.note ?? ""].filter(Boolean).join(" · ")), steps: step_controls() };
    this.chrome.form.el.hidden = !board.editable || !this.host.live;
    this.chrome.header.saved.hidden = this.host.live;
    put(this.chrome.header.saved, without_kernel(!this.host.live));
    const steps = mount(slider), words = make("span", "gv-step-word", step_words(board));
    this.chrome.header.steps.append(words);
    if (board.steps.length > 1) {
      const { play, label, since: select } = this.chrome.steps;
      this.chrome.header.steps.append(steps.stage, this.chrome.header.readout, play, label);
      this.kept.set(slider.name, steps);
      this.listen_panel(steps);
      play.addEventListener("click", () => this.play(), { signal: this.stop.signal });
      select.addEventListener("change", () => this.compare_with(select.value === "" ? null : Number(select.value)), { signal: this.stop.signal });
    }
    this.mount_panels();
    this.root.replaceChildren(this.chrome.header.el, this.chrome.form.el, this.help, ...this.columns.all, this.chrome.footer, this.live_words);
    this.chrome.form.run.addEventListener("click", () => this.submit(), { signal: this.stop.signal });
    this.chrome.footer.querySelector("button")!.addEventListener("click", () => this.toggle_help(), { signal: this.stop.signal });
    this.show_step();
  }

  /** The panels of the kinds of views that are here; those of another text may differ. The slider is the last. */
  private mount_panels(): void {
    const wanted = panels.filter((panel) => this.views.some((view) => view.kind === panel.kind));
    for (const panel of wanted) if (!this.kept.has(panel.name)) {
      const made = mount(panel);
      this.kept.set(panel.name, made);
      this.listen_panel(made);
      if (!this.options.has(panel.name)) this.options.set(panel.name, { ...panel.options, ...this.views.find((view) => view.kind === panel.kind)!.content?.options?.[panel.name], folded: panel.folded ?? false });
    }
    this.mounted = [...wanted.map((panel) => panel.name), slider.name].flatMap((name) => this.kept.get(name) ?? []);
    this.columns.forget();
  }

  private scene(mounted: Mounted | null): Scene {
    const view = this.views.find((one) => one.kind === mounted?.panel.kind) ?? this.views[0]!;
    const asks = mounted && !this.is_folded(mounted) && view.detail_axes && this.look.layer !== undefined;
    const found = asks ? this.details.find(view, place_of(view, this.look as Look, this.corner), this.selection.step, this.frames.text) : { view: null, words: "" };
    return { detail: found.view, detail_words: found.words, options: (mounted && this.options.get(mounted.panel.name)) ?? {}, spot: this.spot?.mounted === mounted ? this.spot?.at : undefined, options_of: this.options_of, live: this.is_live(), board: this.board, views: this.views, view, pattern: pattern_of(this.views), tokens: tokens_of(this.views), selection: this.selection,
             hover: this.hover, look: this.look as Look, corner: this.corner, place: this.place, theme: this.theme, measure: this.measure };
  }

  private options_of = (name: string): Options => this.options.get(name) ?? {};

  private zoom = (): number => Number(this.options_of("head").window ?? 0);

  /** A kernel has answered, or may still. */
  private is_live = (): boolean => this.host.live && (this.alive || !this.chrome || this.chrome.header.saved.hidden);

  private readonly numbers = new WeakMap<View, number>();
  private number_of(detail: View | null): number {
    if (detail && !this.numbers.has(detail)) this.numbers.set(detail, ++this.numbered);
    return detail ? this.numbers.get(detail)! : 0;
  }
  private numbered = 0;

  private is_folded = ({ panel }: Mounted): boolean => Boolean(this.options.get(panel.name)?.folded);

  private resize(width: number): void {
    this.width = width;
    const pattern = pattern_of(this.views);
    this.place = arrange(width, pattern?.n_layer ?? 1, pattern?.n_head ?? 1, tokens_of(this.views).length, this.zoom());
    this.recentre();
    this.queue();
  }

  private set_theme = (): void => {
    const dark = is_dark(this.root);
    this.root.classList.toggle("gv-dark", dark);
    this.theme = read_theme(this.root, dark);
    this.theme_name = JSON.stringify([dark, this.theme.paper, this.theme.ink, this.theme.accent]);
    if (this.place) this.queue();
  };

  private queue(): void {
    if (!this.queued) this.queued = requestAnimationFrame(() => { this.queued = 0; this.draw(); });
  }

  private draw(): void {
    // A notebook attaches the widget and its style sheet after it was rendered: until then there are no colours.
    if (!this.theme.ink) this.set_theme();
    if (!this.theme.ink) return this.queue();
    const pattern = pattern_of(this.views), count = tokens_of(this.views).length;
    const place = arrange(this.width, pattern?.n_layer ?? 1, pattern?.n_head ?? 1, count, this.zoom());
    if (JSON.stringify(place) !== JSON.stringify(this.place)) { this.place = place; this.recentre(); }
    this.refresh_look();
    this.columns.place(this.placings(), this.place, this.width, this.chrome.footer);
    for (const mounted of this.mounted) this.draw_panel(mounted);
    this.draw_chrome();
    this.root.dataset.drawn = String(this.frame_count); // tests wait for it
  }

  private placings = (): Placing[] => this.mounted.flatMap((mounted) => {
    const scene = this.scene(mounted), slot = mounted.panel.slot(scene);
    return slot ? [{ mounted, slot, half: this.is_half(mounted), tall: mounted.panel.tall?.(scene) ?? 320 }] : [];
  });

  private is_half(mounted: Mounted): boolean {
    const { half } = mounted.panel;
    return typeof half === "function" ? half(this.scene(mounted)) : Boolean(half);
  }

  private draw_panel(mounted: Mounted): void {
    const { panel } = mounted, scene = this.scene(mounted), slot = panel.slot(scene);
    if (panel !== slider && !slot) { mounted.layout = null; return; }
    const nothing = !this.host.live && panel.folded && is_left_out(scene.view); // a page holds none of it: no unfolding of blanks
    if (panel !== slider) show_heading(mounted, panel.heading(scene), slot === "below" && !nothing ? this.is_folded(mounted) : null, whose(scene.views, panel.name), nothing ? `${left_out}: ${panel.heading(scene).subtitle}` : "");
    if (nothing || (slot === "below" && this.is_folded(mounted))) { mounted.layout = null; mounted.laid = ""; mounted.lines.hidden = true; return; }
    if (panel !== slider) show_lines(mounted, panel.lines?.(scene) ?? []);
    const { options } = scene, halves = slot === "below" && this.columns.shares_width(mounted);
    show_controls(mounted, panel.controls?.(scene) ?? [], options, (change) => this.controlled(mounted, change));
    const width = panel === slider ? (this.width < 700 ? 150 : 212) : halves ? Math.floor((this.place.width - gap) / 2) : this.place.widths[slot!];
    const laid = JSON.stringify([width, this.frame_count, panel.by_detail ? this.number_of(scene.detail) : this.detail_count, options, panel.reads?.map(this.options_of), this.corner, this.place, this.theme_name, devicePixelRatio]);
    if (laid !== mounted.laid) { mounted.layout = panel.layout(scene, width); mounted.laid = laid; this.fit(mounted); mounted.drawn = ""; }
    const drawn = panel.stale?.(scene) ?? "same";
    if (drawn !== mounted.drawn) { repaint(mounted.base, (ctx) => panel.draw(ctx, mounted.layout, scene)); mounted.drawn = drawn; }
    repaint(mounted.over, (ctx) => panel.mark(ctx, mounted.layout, scene));
    mounted.stage.setAttribute("aria-label", panel.says(scene));
  }

  private controlled(mounted: Mounted, change: Patch): void {
    if (change.options) this.set_options(mounted.panel.name, change.options);
    this.apply({ ...change, options: undefined });
  }

  private fit({ base, over, layout, stage }: Mounted): void {
    const ratio = devicePixelRatio || 1;
    stage.style.width = `${layout.width}px`;
    stage.style.height = `${layout.height}px`;
    for (const canvas of [base, over]) { canvas.width = Math.round(layout.width * ratio); canvas.height = Math.round(layout.height * ratio); }
  }

  private draw_chrome(): void {
    const { steps, limit } = this.board, step = this.look.step ?? 0, { readout } = this.chrome.header;
    if (steps.length > 1) {
      if (!readout.firstChild) readout.append(make("strong"), make("span"));
      put(readout.firstChild as HTMLElement, whole(step));
      put(readout.lastChild as HTMLElement, ` of ${whole(this.last_step())}`);
      put(this.chrome.steps.play, this.player.playing ? "❚❚ Pause" : "▶ Play");
      show_steps(this.chrome.steps.since, steps, this.since_step);
      const stage = this.mounted.at(-1)!.stage;
      for (const [name, value] of [["valuemin", steps[0]], ["valuemax", this.last_step()], ["valuenow", nearest(steps, step)]])
        stage.setAttribute(`aria-${name}`, String(value));
    }
    put(this.chrome.header.compared, compared_words(this.views));
    put(this.chrome.form.count, `${tokens_of(this.views).length}${limit ? ` of ${whole(limit)}` : ""} tokens`);
    if (this.active) put(this.live_words, this.active.panel.says(this.scene(this.active)));
  }

  private show_error(words: string): void {
    this.chrome.form.error.hidden = !words;
    put(this.chrome.form.error, words ? `✕ ${words}` : "");
  }

  private notify(words: string, stage?: HTMLElement): void {
    if (!words) return this.notice.remove();
    const said = make("p", "", words);
    said.setAttribute("role", "alert");
    stage?.before(this.notice); // not in the stage, whose own words are one picture for a screen reader
    this.notice.replaceChildren(said);
  }

  private toggle_help(): void { this.help.hidden = !this.help.hidden; }

  // --- listeners -----------------------------------------------------------------------------------------

  private listen(): void {
    const { signal } = this.stop;
    watch_theme(this.set_theme, signal);
    const observer = new ResizeObserver(([entry]) => { if (entry && entry.contentRect.width) { this.set_theme(); this.resize(this.root.clientWidth); } });
    observer.observe(this.root);
    signal.addEventListener("abort", () => observer.disconnect());
    this.root.addEventListener("keydown", this.press, { signal });
    document.fonts?.ready.then(() => { if (!signal.aborted) { for (const one of this.mounted) one.laid = ""; this.queue(); } });
    this.host.on_change(this.pull);
    this.host.on_message(this.receive);
    if (!this.host.live) { // a page of its own: keys that mean the same in every view work before the first click
      document.addEventListener("keydown", (event) => { if (event.target === document.body) this.press(event); }, { signal });
      return;
    }
    this.host.send({ ask: "hello" });
    setTimeout(() => { if (!this.alive && !signal.aborted) { this.chrome.form.el.hidden = true; this.chrome.header.saved.hidden = false; } }, 4000);
  }

  private listen_panel(mounted: Mounted): void {
    const { signal } = this.stop, { stage } = mounted;
    const on = <K extends keyof HTMLElementEventMap>(name: K, call: (event: HTMLElementEventMap[K]) => void) => stage.addEventListener(name, call, { signal });
    on("pointermove", (event) => this.pointed(mounted, event));
    on("pointerdown", (event) => this.pressed(mounted, event));
    on("pointerup", () => { this.gripped = null; });
    on("pointercancel", () => { this.gripped = null; });
    on("pointerleave", () => { if (!this.gripped) { this.hover = {}; this.spot = null; this.queue(); } });
    on("focus", () => { this.active = mounted; this.queue(); });
    mounted.fold.addEventListener("click", () => this.set_options(mounted.panel.name, { folded: !this.is_folded(mounted) }), { signal });
  }

  private find(mounted: Mounted, event: PointerEvent): [Hit | null, number, number] {
    const box = mounted.stage.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    return [mounted.layout ? mounted.panel.hit(mounted.layout, x, y, this.scene(mounted)) : null, x, y];
  }

  private pointed(mounted: Mounted, event: PointerEvent): void {
    const [hit, x, y] = this.find(mounted, event), { panel } = mounted;
    if (this.gripped?.mounted === mounted) {
      const patch = panel.drag?.(mounted.layout, this.gripped.hit, x, y, this.scene(mounted));
      if (patch) this.apply(patch);
      return;
    }
    mounted.stage.style.cursor = hit ? (hit.drag ? "ew-resize" : "pointer") : "";
    this.hover = hit?.at ?? {};
    this.spot = hit?.spot === undefined ? null : { mounted, at: hit.spot };
    this.active = mounted;
    this.queue();
  }

  private pressed(mounted: Mounted, event: PointerEvent): void {
    const [hit, x, y] = this.find(mounted, event);
    if (!hit || event.button) return;
    this.player.stop();
    this.notify("");
    if (hit.drag) { this.gripped = { mounted, hit }; mounted.stage.setPointerCapture(event.pointerId); }
    const patch = hit.drag && hit.drag !== "query" && hit.drag !== "key" ? mounted.panel.drag?.(mounted.layout, hit, x, y, this.scene(mounted)) : null;
    if (hit.options) this.set_options(mounted.panel.name, hit.options);
    if (hit.act) this.act(hit.act);
    const at = { ...hit.at };
    if (at.query !== undefined && at.key === undefined) at.key = null; // a new query shows its strongest key
    if (at.key !== undefined && at.key !== null && at.query === undefined) at.query = Math.max(this.look.query ?? 0, at.key);
    this.apply(patch ?? { selection: at });
  }

  private press = (event: KeyboardEvent): void => {
    if (event.target === this.chrome.form.input && event.key === "Enter") { // a form's own submit does not fire in JupyterLab
      event.preventDefault();
      event.stopPropagation();
      return this.submit();
    }
    if (event.key === "Enter" && (event.target as HTMLInputElement).type === "search") return this.search(event);
    if (/^(INPUT|SELECT|BUTTON)$/.test((event.target as HTMLElement).tagName) || event.ctrlKey || event.metaKey || event.altKey) return;
    this.refresh_look(); // the key before this one may not be drawn yet
    const mounted = this.mounted.find((one) => one.stage === event.target);
    if (event.key === " " && mounted?.panel === slider) { event.preventDefault(); event.stopPropagation(); return this.play(); }
    const patch = this.shortcut(event.key) ?? (mounted?.layout ? mounted.panel.press?.(event.key, this.scene(mounted)) : null);
    if (!patch) return;
    event.preventDefault();
    event.stopPropagation();
    this.hover = {};
    this.spot = null;
    this.notify(patch.note ?? "", mounted?.stage);
    this.apply(patch);
  };

  /** Enter in a search belongs to its panel. */
  private search(event: KeyboardEvent): void {
    const mounted = this.mounted.find((one) => one.controls.contains(event.target as Node));
    event.preventDefault();
    event.stopPropagation();
    const patch = mounted?.panel.press?.("Enter", this.scene(mounted));
    if (mounted && patch) this.controlled(mounted, patch);
  }

  /** Keys that mean the same in every view. */
  private shortcut(key: string): Patch | null {
    if (key === "?") { this.toggle_help(); return {}; }
    if (key === "Escape") return this.unlock();
    const pattern = pattern_of(this.views), jump = { "[": -1, "]": 1, "{": -(pattern?.n_head ?? 1), "}": pattern?.n_head ?? 1 }[key];
    if (!jump || !pattern) return null;
    const { layer = 0, head = 0 } = this.look, count = pattern.n_layer * pattern.n_head;
    const to = (layer * pattern.n_head + head + jump + count) % count;
    return { selection: { layer: Math.floor(to / pattern.n_head), head: to % pattern.n_head } };
  }

  private unlock(): Patch {
    if (!this.help.hidden) { this.help.hidden = true; return {}; }
    const cell = this.selection.query != null || this.selection.key != null;
    return { selection: cell ? { query: null, key: null } : { layer: null, head: null } };
  }

  private submit(): void {
    const text = this.chrome.form.input.value;
    if (text) { this.wanted = text; this.request(this.selection.step); }
    else this.show_error("The text must have at least one token; it is empty. Write something.");
  }
}
