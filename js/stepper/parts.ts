// The words around the drawing: overview, equation, source, receipt, question, switches, rail. Only textContent.
import { make } from "../chrome.ts";
import { exponential, in_quotes } from "../text.ts";
import type { Line, Pass, Question, Stage, Switch, Switched } from "./pass.ts";
import { counted, shown, type Receipt, type Source } from "./receipt.ts";
import type { Answer, Shown } from "./walk.ts";

export type Go = (to: { stage?: string; layer?: number }) => void;

function button(name: string, words: string, press: () => void): HTMLButtonElement {
  const el = make("button", name, words);
  el.type = "button";
  el.tabIndex = -1; // one tab stop: the stage; keys do the same
  el.addEventListener("click", press);
  return el;
}

const times = (shape: number[]): string => shape.join("×");

/** The model as its real blocks on the line of the stream: the current layer open, the others attention and MLP. */
export function overview(pass: Pass, stage: Stage, layer: number, go: Go): HTMLElement[] {
  const box = (one: Stage) => {
    const el = button(`gv-box gv-${one.branch}${/^resid_(mid|post)$/.test(one.id) ? " gv-add" : ""}`, "", () => go({ stage: one.id, layer }));
    el.dataset.stage = one.id;
    el.append(make("span", "", one.id), make("span", "gv-shape", times(one.shape)));
    return el;
  };
  const { stages } = pass.content, first = stages.findIndex((one) => one.in_block), last = stages.findLastIndex((one) => one.in_block);
  const inside = stages.slice(first, last + 1), at_layer = stage.in_block ? layer : -1;
  const blocks = Array.from({ length: pass.n_layer }, (_, l) => {
    if (l === at_layer) { const open = make("div", "gv-open"); open.append(make("span", "gv-open-name", `L${l}`), ...inside.map(box)); return open; }
    const row = make("div", "gv-closed");
    row.append(make("span", "gv-layer", `L${l}`), ...[["attention", "ln_1"], ["mlp", "ln_2"]].map(([words, id]) => { const el = button("gv-box", words!, () => go({ stage: id, layer: l })); el.setAttribute("aria-label", `L${l} ${words}`); return el; }));
    return row;
  });
  return [...stages.slice(0, first).map(box), ...blocks, ...stages.slice(last + 1).map(box)];
}

/** The shape of a transposed matrix, or of one for each head. */
export const turned = (shape: number[]): number[] => [...shape.slice(0, -2), ...shape.slice(-2).reverse()];

/** The equation, each symbol over the shape of what it stands for. */
export function equation(pass: Pass, stage: Stage, focus: string, choose: (name: string) => void): HTMLElement[] {
  return stage.equation.map(([text, name]) => {
    if (!name) return make("span", "gv-sign", text);
    const about = pass.content.tensors[name], own = about ? pass.shape(name) : stage.parameters.find((one) => one.name === name)?.shape, shape = own && text.endsWith("ᵀ") ? turned(own) : own;
    const letter = name === "q" ? " gv-is-q" : name === "k" ? " gv-is-k" : name === "v" ? " gv-is-v" : "";
    const el = about ? button(`gv-symbol${name === focus ? " gv-here" : ""}${letter}`, "", () => choose(name)) : make("span", "gv-symbol");
    el.append(make("b", "", text), make("small", "", shape ? times(shape) : ""));
    el.title = name;
    return el;
  });
}

/** The lines of model.py around those that compute the stage, which are lit. Long lines hang under their own start. */
export function source_lines(pass: Pass, lines: Line[]): HTMLElement[] {
  const text = pass.content.source.text.split("\n"), lit = new Set(lines.flatMap(({ first, last }) => Array.from({ length: last - first + 1 }, (_, i) => first + i)));
  const more = lit.size > 4 ? [-1, 0, 1] : [-2, -1, 0, 1, 2], near = new Set([...lit].flatMap((line) => more.map((by) => line + by)).filter((line) => lit.has(line) || text[line - 1]?.trim()));
  const shown_lines = [...near].sort((a, b) => a - b), indent = (line: number) => { const one = text[line - 1]!; return one.length - one.trimStart().length; };
  const least = Math.min(...shown_lines.filter((line) => text[line - 1]!.trim()).map(indent)), out: HTMLElement[] = [];
  shown_lines.forEach((line, i) => {
    if (i && shown_lines[i - 1] !== line - 1) out.push(make("div", "gv-gap", "⋯"));
    const row = make("div", lit.has(line) ? "gv-code gv-here" : "gv-code"), [, words, remark] = /^(.*?)(  # .*)?$/.exec(text[line - 1]!.trim().replace(/ {3,}#/, "  #"))!, code = make("code", "", words || " ");
    if (remark) code.append(make("span", "gv-remark", remark)); // the shape at its end stays in one piece
    code.style.marginLeft = `${Math.max(0, indent(line) - least) / 2 + 2}ch`;
    row.append(make("span", "gv-number", String(line)), code);
    out.push(row);
  });
  return out;
}

const most_terms = 6;

/** The arithmetic of the chosen cell: steps, the largest terms, the sum, and what the model computed. */
export function receipt_rows(paid: Receipt, unit: string, pass: Pass): HTMLElement[] {
  const number = paid.rule === "given" ? String : shown, part = part_number(paid), rows: HTMLElement[] = [], line = (words: string, value: string, name = "") => {
    const el = make("div", `gv-receipt-row${name}`);
    el.append(make("span", "", words), make("span", "gv-value", value));
    rows.push(el);
  };
  for (const [what, value] of paid.steps) line(what, what === "√d_head" ? counted(value) : shown(value));
  const products = paid.a.map((a, i) => (paid.b ? a * paid.b[i]! : a)), order = products.map((_, i) => i).sort((i, j) => Math.abs(products[j]!) - Math.abs(products[i]!));
  const told = paid.rule !== "softmax" && paid.rule !== "given";
  if (told) {
    const kept = order.length <= most_terms + 1 ? [...products.keys()] : order.slice(0, most_terms);
    for (const i of kept) line(paid.labels[i] ?? "", paid.b ? `${part(paid.a[i]!)} × ${part(paid.b[i]!)} = ${shown(products[i]!)}` : part(products[i]!));
    const rest = products.length - kept.length;
    if (rest) line(`${rest} smaller terms`, shown(products.reduce((sum, one) => sum + one, 0) - kept.reduce((sum, i) => sum + products[i]!, 0)));
  }
  if (paid.bias !== null) line(paid.rule === "scale" ? "ε" : "bias", shown(paid.bias));
  line(paid.rule === "given" ? "the tokenizer’s number" : formula(paid), number(paid.result), " gv-total");
  line(paid.rule === "given" ? "the model read" : "the model computed", `${number(paid.recorded)}${unit ? ` ${unit}` : ""}`);
  line("difference, recomputed in float64", `${paid.error ? exponential(paid.error, 0) : "0"} ${paid.passed ? "✓" : "✕"}`, paid.passed ? " gv-passed" : " gv-missed");
  if (paid.note) rows.push(make("p", "gv-note", paid.note));
  const from = [...paid.sources, ...paid.weights].map((one) => origin(pass, one));
  if (from.length) rows.push(make("p", "gv-note gv-origin", `from ${from.join(" and ")}`));
  return rows;
}

/** Where numbers stand: ln_1[layer 1, pos 5, d_model 0 to 47], attn.c_attn.weight[layer 1, row 96, column 0 to 47]. */
export function origin(pass: Pass, { name, layer, index }: Source): string {
  const places = layer === null ? index : [layer, ...index], in_block = /^(ln_[12]|attn|mlp)\./.test(name);
  const inner = places.length - Number(in_block) > 1 ? ["row", "column"] : ["column"], axes = pass.content.tensors[name]?.axes ?? (in_block ? ["layer", ...inner] : inner);
  const words = places.map((span, i) => `${axes[i]} ${typeof span === "number" ? span : `${span[0]} to ${span[1] - 1}`}`);
  return `${name}[${words.join(", ")}]`;
}

/** How the addends and factors of a receipt are written: the mask is 0, and half of x passes GELU times 1. */
const part_number = ({ rule }: Receipt): ((value: number) => string) => (rule === "mask" || rule === "gelu" ? counted : shown);

/** The arithmetic on one line: 0.31 × 1.20 + … + bias = 0.87. */
export function formula(paid: Receipt): string {
  const part = part_number(paid), parts = paid.a.map((a, i) => (paid.b ? `${part(a)} × ${part(paid.b[i]!)}` : part(a)));
  let text = (parts.length > 3 ? [parts[0], "…", parts.at(-1)] : parts).join(" + ");
  if (paid.bias !== null) text += ` + ${shown(paid.bias)}`;
  const by = paid.rule === "dot" ? counted(paid.divisor) : shown(paid.divisor);
  if (paid.divisor !== 1) text = parts.length > 1 || paid.bias !== null ? `(${text}) ÷ ${by}` : `${text} ÷ ${by}`;
  return paid.outer ? `√(${text})` : text;
}

/** What is asked, its choices or a field, and what is to be said to the answer. */
export function question_parts(question: Question, answer: Answer | undefined, reply: (given: number) => void): HTMLElement[] {
  const out: HTMLElement[] = [make("p", "gv-ask", question.text)];
  if (question.kind === "choice") {
    question.choices.forEach((words, i) => {
      const state = !answer ? "" : i === question.answer ? " gv-right" : i === answer.given ? " gv-wrong" : "", el = button(`gv-choice${state}`, "", () => reply(i));
      el.append(make("kbd", "", "ABCDEFGH"[i]), make("span", "", words), make("span", "gv-mark-right", answer && i === question.answer ? "✓" : ""));
      el.disabled = Boolean(answer);
      out.push(el);
    });
  } else out.push(number_field(question, answer, reply));
  if (answer) {
    const feedback = answer.given === null ? "" : question.feedback[answer.given] ?? "";
    out.push(make("p", "gv-explained", `${answer.right ? "Right." : "Not quite."} ${feedback} ${question.kind === "number" ? `It is ${(question.tolerance ? shown : counted)(question.answer)}${question.unit ? ` ${question.unit}` : ""}. ` : ""}${question.explanation}`));
  }
  return out;
}

function number_field(question: Question, answer: Answer | undefined, reply: (given: number) => void): HTMLElement {
  const row = make("div", "gv-number-row"), input = make("input", "gv-number-field"), check = button("gv-small", "Check", () => { if (input.value !== "") reply(Number(input.value)); });
  input.type = "number"; input.step = "any"; input.disabled = Boolean(answer);
  input.setAttribute("aria-label", question.text);
  if (answer?.given != null) input.value = String(answer.given);
  input.addEventListener("keydown", (event) => { if (event.key === "Enter" && input.value !== "") { event.stopPropagation(); reply(Number(input.value)); } });
  check.disabled = Boolean(answer);
  row.append(input, make("span", "", question.unit), check);
  return row;
}

/** What breaks without it: losses, token by token, and the next token beside the true ones. */
export function switch_parts(pass: Pass, one: Switch, result: Switched | undefined, waiting: string, press: (() => void) | null): HTMLElement {
  const el = make("div", "gv-switch"), head = make("div", "gv-switch-head"), place = [result?.layer, result?.head].every((at) => at == null) ? "" : ` (L${result!.layer}${result!.head == null ? "" : ` H${result!.head}`})`;
  head.append(make("b", "", one.title + place), ...(result || !press ? [] : [button("gv-small", "try it", press)])); // a page has no kernel that could run it
  el.append(head, make("p", "gv-note", one.sentence));
  if (waiting && !result) el.append(make("p", "gv-note", waiting));
  if (!result) return el;
  el.append(switch_table(pass, result), make("code", "gv-line", result.code));
  const note = loss_note(result);
  if (note) el.append(make("p", "gv-note", note));
  return el;
}

/** What a mean loss that did not rise says, and what it does not. */
export function loss_note({ id, loss, true_loss }: Pick<Switched, "id" | "loss" | "true_loss">): string {
  const rise = (loss ?? NaN) - (true_loss ?? NaN);
  if (Math.abs(rise) < 0.02) return "The mean loss hardly moves: on this text the model makes little use of it. Another text may show more.";
  if (!(rise < 0)) return "";
  if (id === "no_mask") return "The mean loss fell because each position now sees the tokens after it, the one that it is to foretell among them.";
  return "The mean loss fell on this text. That makes it no better model: look at the tokens that it can know, for of those that nobody can foresee a vaguer guess costs less.";
}

const most_losses = 12;

function switch_table(pass: Pass, result: Switched): HTMLElement {
  const table = make("table", "gv-with"), number = (value: number | null | undefined) => (value == null || Number.isNaN(value) ? (pass.tokens.length > 1 ? "NaN" : "–") : value.toFixed(3)); // null: JSON has no NaN; a text of one token has no loss
  const row = (words: string, one: string, two: string, name = "") => { const tr = make("tr", name), th = make("th", "", words); th.scope = "row"; tr.append(th, make("td", "gv-value", one), make("td", "gv-value", two)); table.append(tr); };
  const word = (next: { word: string; prob: number }[]) => next.slice(0, 1).map((next_one) => `${in_quotes(next_one.word)} ${next_one.prob?.toFixed(2) ?? "–"}`).join("");
  const top = make("tr"), losses = pass.row("loss", null), change = (i: number) => Math.abs((result.losses[i] ?? NaN) - losses[i]!);
  top.append(make("td"), make("th", "", "the model"), make("th", "", "without it"));
  table.append(top);
  row("next token", word(result.true_next), word(result.next));
  row("loss, mean of all", number(result.true_loss), number(result.loss));
  const places = losses.map((_, i) => i).slice(1), kept = places.length <= most_losses ? places : [...places].sort((i, j) => change(j) - change(i)).slice(0, most_losses).sort((i, j) => i - j);
  if (kept.length < places.length) row(`the ${most_losses} that change most`, "", "");
  for (const i of kept) row(`${i} ${in_quotes(pass.tokens[i]!)}`, number(losses[i]), number(result.losses[i]), (result.losses[i] ?? 0) > losses[i]! + 0.01 ? "gv-worse" : "");
  return table;
}

/** The stages as stops of a line; over those of a block stands which one. */
export function rail(pass: Pass, layer: number, go: Go): HTMLElement[] {
  const first = pass.content.stages.find((one) => one.in_block);
  return pass.content.stages.map((one) => {
    const el = button(`gv-stop${one.in_block ? " gv-in-block" : ""}`, "", () => go({ stage: one.id, layer }));
    const which = one === first ? `layer L${layer} (of L0 to L${pass.n_layer - 1})` : "";
    el.dataset.stage = one.id;
    el.setAttribute("aria-label", which ? `${which} ${one.id}` : one.id); // what is seen, in its order
    el.append(make("small", "", which), make("i"), make("span", "", one.id));
    return el;
  });
}

/** Which tensors of two passes differ most, layer by layer. */
export function changes(one: Pass, other: Pass, open: (tensor: Shown) => void): HTMLElement[] {
  const found = Object.keys(one.content.tensors).flatMap((name) => (one.layered(name) ? Array.from({ length: one.n_layer }, (_, layer) => layer) : [null]).map((layer) => ({ name, layer, share: relative_change(one, other, name, layer) })));
  return found.filter(({ share }) => Number.isFinite(share)).sort((a, b) => b.share - a.share).slice(0, 16).map(({ name, layer, share }, _, all) => {
    const el = button("gv-change", "", () => open({ name, layer })), bar = make("i");
    bar.style.width = `${Math.round((100 * share) / (all[0]!.share || 1))}%`;
    el.append(make("span", "gv-cell-name", `${name}${layer === null ? "" : ` L${layer}`}`), bar, make("span", "gv-value", share.toFixed(3)));
    return el;
  });
}

function relative_change(one: Pass, other: Pass, name: string, layer: number | null): number {
  const a = one.slab(name, layer), b = other.slab(name, layer);
  if (!a || !b || name === "ids" || a.shape.join() !== b.shape.join()) return NaN;
  let difference = 0, size = 0;
  for (let i = 0, n = a.shape.reduce((x, y) => x * y, 1); i < n; i++) {
    const x = a.values[a.offset + i]!, y = b.values[b.offset + i]!;
    if (Number.isFinite(x) && Number.isFinite(y)) { difference += (x - y) ** 2; size += x * x; }
  }
  return Math.sqrt(difference / size);
}
