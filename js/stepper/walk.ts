// Where the reader is in a forward pass, and what has been asked and answered: no document, no kernel.
import { in_quotes } from "../text.ts";
import { Pass, type Question, type Stage, type Switched } from "./pass.ts";
import { receipt, type Receipt } from "./receipt.ts";

/** What is looked at: places along all axes at once; each tensor uses its own. */
export interface Place { layer: number; head: number; pos: number; key: number; column: number }
export interface Answer { given: number | null; right: boolean }
export interface Shown { name: string; layer: number | null }

/** What a stage shows: where its numbers come from, then what it makes. */
export function shown_tensors(pass: Pass, stage: Stage, layer: number): Shown[] {
  const result = stage.tensors.at(-1);
  if (!result) return [];
  const rule = pass.content.tensors[result]!.rule, first = pass.content.tensors[stage.tensors[0]!]!;
  const sources = rule === "carry" ? (layer ? ["resid_post"] : ["embed", "pos_embed"]) : first.sources.filter((one) => one !== "ids" || stage.id === "embed");
  const at = (name: string, own: boolean) => {
    if (!pass.layered(name)) return null;
    return rule === "carry" && !own ? layer - 1 : stage.in_block || stage.id === "blocks" ? layer : pass.n_layer - 1;
  };
  const own = stage.tensors.map((name) => ({ name, layer: at(name, true) }));
  return [...sources.filter((one) => !stage.tensors.includes(one)).map((name) => ({ name, layer: at(name, false) })), ...own];
}

/** The place of a cell of a tensor along its axes, without the layer. */
export function index_of(pass: Pass, name: string, place: Place): number[] {
  const shape = pass.shape(name), by: Record<string, number> = { head: place.head, pos: place.pos, query: place.pos, key: place.key };
  return pass.axes(name).map((axis, i) => Math.min(shape[i]! - 1, by[axis] ?? place.column));
}

export class Walk {
  passes: Pass[] = [];
  stage = 0;
  focus = ""; // the tensor whose cell is chosen
  place: Place = { layer: 0, head: 0, pos: 0, key: 0, column: 0 };
  predicting = false;
  readonly answers = new Map<string, Answer>();
  private readonly passed_over = new Set<string>(); // answered questions that were left for the stage's next one
  readonly switched = new Map<string, Switched>();
  readonly paid = new Map<string, Receipt>(); // receipts of the kernel, where the page holds too little

  get pass(): Pass { return this.passes[0]!; }
  get now(): Stage { return this.pass.content.stages[this.stage]!; }

  take(passes: Pass[]): void {
    this.passes = passes;
    if (passes.length < 2) for (const { content } of passes) content.stages = content.stages.filter((one) => one.id !== "change");
    this.answers.clear(); this.passed_over.clear(); this.switched.clear(); this.paid.clear();
    for (const one of this.pass.content.switches.results) this.keep_switched(one);
    this.go_to(this.stage);
  }

  /** Choose a stage by its place; its result has the focus. */
  go_to(stage: number): void {
    this.stage = Math.max(0, Math.min(this.pass.content.stages.length - 1, stage));
    this.focus = this.now.tensors.at(-1) ?? "";
  }

  open_tensor({ name, layer }: Shown): void {
    const stage = this.pass.content.stages.findIndex((one) => one.tensors.includes(name));
    if (layer !== null) this.place.layer = layer;
    if (stage >= 0) this.go_to(stage);
    this.focus = name;
  }

  /** The next of the tensors that the stage makes: q, k, v. */
  next_tensor(): void {
    const { tensors } = this.now;
    if (tensors.length) this.focus = tensors[(tensors.indexOf(this.focus) + 1) % tensors.length]!;
  }

  move(change: Partial<Place>): void {
    const { config } = this.pass.content, n = this.pass.tokens.length, to = { ...this.place, ...change };
    const inside = (value: number, size: number) => Math.max(0, Math.min(size - 1, value)), widest = Math.max(4 * config.n_embd, this.pass.columns.length);
    this.place = { layer: inside(to.layer, config.n_layer), head: inside(to.head, config.n_head), pos: inside(to.pos, n), key: inside(to.key, n), column: inside(to.column, widest) };
  }

  /** Move the chosen cell along the last axis of its tensor. */
  move_along(by: number): void {
    const axis = this.focus ? this.pass.axes(this.focus).at(-1)! : "pos", { place } = this;
    if (axis === "pos") this.move({ pos: place.pos + by });
    else if (axis === "key") this.move({ key: place.key + by });
    else this.move({ column: Math.min(this.pass.shape(this.focus).at(-1)! - 1, place.column) + by });
  }

  choose_last(at: number): void {
    const axis = this.pass.axes(this.focus).at(-1);
    this.move(axis === "key" ? { key: at } : axis === "pos" ? { pos: at } : { column: at });
  }

  /** The next stage; after a block's last one the next block begins. */
  next(): void {
    const [first, end] = this.block;
    if (this.stage === end && this.place.layer < this.pass.n_layer - 1) { this.place.layer++; return this.go_to(first); }
    this.go_to(this.stage + 1);
  }

  back(): void {
    const [first, end] = this.block;
    if (this.stage === first && this.place.layer > 0) { this.place.layer--; return this.go_to(end); }
    if (this.stage === end + 1) this.place.layer = this.pass.n_layer - 1;
    this.go_to(this.stage - 1);
  }

  private get block(): [number, number] {
    const { stages } = this.pass.content;
    return [stages.findIndex((one) => one.in_block), stages.findLastIndex((one) => one.in_block)];
  }

  /** Where the reader is, to be dictated: L1 H0 stage 8 token 5. */
  state(): string { return `L${this.place.layer} H${this.place.head} stage ${this.now.number} token ${this.place.pos}`; }

  /** Go to a place in words: any of L1, H0, stage 8 (or its name), token 5. Gives why it could not; "" if it could. `nearest`: then goes as near as it can. */
  jump(words: string, nearest = false): string {
    const text = words.replace(/-/g, " "), number = (pattern: RegExp) => { const found = text.match(pattern); return found ? Number(found[1]) : null; };
    const layer = number(/\bL(\d+)/i), head = number(/\bH(\d+)/i), pos = number(/\btoken (\d+)/i), by_number = number(/\bstage (\d+)/i), { stages } = this.pass.content;
    const named = (one: Stage) => one.id === text.trim() || text.toLowerCase().includes(`stage ${one.id}`);
    const stage = by_number !== null ? stages.findIndex((one) => one.number === by_number) : stages.findIndex(named);
    const { config } = this.pass.content, ranges: [number | null, number, string, string][] = [[layer, config.n_layer, "L", "this model"], [head, config.n_head, "H", "each layer"], [pos, this.pass.tokens.length, "token ", "this text"]];
    const wrong = ranges.filter(([at, n]) => at !== null && at >= n).map(([at, n, name, whose]) => `There is no ${name}${at}: ${whose} has ${n > 1 ? `${name}0 to ${name}${n - 1}` : `${name}0 only`}.`);
    if (by_number !== null && stage < 0) wrong.push(`There is no stage ${by_number}: they are 0 to ${stages.at(-1)!.number}.`);
    if ([layer, head, pos, by_number].every((one) => one === null) && stage < 0) return "A place has any of L1, H0, stage 8 (or the stage’s name) and token 5. Write at least one of them.";
    if (wrong.length && !nearest) return wrong.join(" ");
    if (by_number !== null || stage >= 0) this.go_to(stage < 0 ? stages.length - 1 : stage);
    this.move(Object.fromEntries(Object.entries({ layer, head, pos }).filter(([, value]) => value !== null)));
    return wrong.join(" ");
  }

  private fits = ({ stage, at }: Question): boolean => stage === this.now.id && (at.layer ?? this.place.layer) === this.place.layer && (at.head ?? this.place.head) === this.place.head;

  /** The question about what is looked at: this stage, this layer and this head; of several the first that was not left. */
  get question(): Question | undefined {
    const here = this.pass.content.questions.filter(this.fits);
    return here.find((one) => !this.passed_over.has(one.id)) ?? here.at(-1);
  }

  /** Whether this question is answered and the stage has another one. */
  get has_next_question(): boolean {
    const { question, answers } = this;
    return Boolean(question && answers.has(question.id)) && this.pass.content.questions.some((one) => this.fits(one) && !answers.has(one.id));
  }

  next_question(): void { if (this.has_next_question) this.passed_over.add(this.question!.id); }

  /** Where this stage has a question, if it has none here: in a model of very many heads only some have one. */
  get asked_at(): Partial<Place> | null {
    const { layer } = this.place, all = this.question ? [] : this.pass.content.questions.filter((one) => one.stage === this.now.id), { at } = all.find((one) => one.at.layer === layer) ?? all[0] ?? { at: null };
    return at && { ...(at.layer === undefined ? {} : { layer: at.layer }), ...(at.head === undefined ? {} : { head: at.head }) };
  }

  answer(question: Question, given: number): void {
    const right = question.kind === "choice" ? given === question.answer : Math.abs(given - question.answer) <= question.tolerance;
    this.answers.set(question.id, { given, right });
  }

  get score(): string { return this.answers.size ? `${[...this.answers.values()].filter((one) => one.right).length} of ${this.answers.size} right` : ""; }

  /** The tensor that is hidden until the question of its stage is answered. */
  get hidden(): string | null {
    const { question } = this;
    return this.predicting && question && !this.answers.has(question.id) ? this.now.tensors.at(-1) ?? null : null;
  }

  keep_switched(one: Switched): void { this.switched.set(`${one.id} ${one.layer} ${one.head}`, one); }

  layer_of(name: string): number | null {
    return shown_tensors(this.pass, this.now, this.place.layer).find((one) => one.name === name)?.layer ?? (this.pass.layered(name) ? this.place.layer : null);
  }

  here(name: string): boolean { return this.pass.holds(name, this.layer_of(name)); }

  /** The chosen cell along the axes of its tensor, without the layer. */
  get at(): number[] { return this.focus ? index_of(this.pass, this.focus, this.place) : []; }

  /** The chosen cell as the kernel counts, layer first. */
  get address(): { tensor: string; index: number[] } {
    const layer = this.layer_of(this.focus);
    return { tensor: this.focus, index: layer === null ? this.at : [layer, ...this.at] };
  }

  /** The arithmetic of the chosen cell; null where the page holds too little and the kernel has not been asked. */
  receipt(): Receipt | null {
    if (!this.focus || !this.here(this.focus)) return null;
    return receipt(this.pass, this.focus, this.layer_of(this.focus), this.at) ?? this.paid.get(JSON.stringify(this.address)) ?? null;
  }

  /** pattern[layer 1, head 0, query 4, key 2] */
  words(name: string, layer: number | null, at: number[]): string {
    const places = this.pass.axes(name).map((axis, i) => (axis === "d_vocab" ? `token ${in_quotes(this.pass.columns[at[i]!]!)}` : `${axis} ${at[i]}`));
    return `${name}[${[...(layer === null ? [] : [`layer ${layer}`]), ...places].join(", ")}]`;
  }
}
