// The words around the drawing: overview, equation, source, receipt, question, switches, rail. Only textContent.
import { make } from "../chrome.ts";
import type { Theme } from "../theme.ts";
import type { Line, Pass, Question, Stage, Switch, Switched } from "./pass.ts";
import { shown, type Receipt } from "./receipt.ts";
import { colour_scale } from "./plates.ts";

export type Go = (to: { stage?: string; layer?: number }) => void;

function button(name: string, words: string, press: () => void): HTMLButtonElement {
  const el = make("button", name, words);
  el.type = "button";
  el.tabIndex = -1; // one tab stop: the stage; keys do the same
  el.addEventListener("click", press);
  return el;
}

const times = (shape: number[]): string => shape.join("×");

/** The model as its real blocks: the current layer open, the others folded into attention and MLP. */
export function overview(pass: Pass, stage: Stage, layer: number, go: Go): HTMLElement[] {
  const box = (one: Stage) => {
    const el = button(`gv-box${one.id === stage.id ? " gv-here" : ""} gv-${one.branch}`, "", () => go({ stage: one.id, layer }));
    el.append(make("span", "", one.id), make("span", "gv-shape", times(one.shape)));
    return el;
  };
  const { stages } = pass.content, first = stages.findIndex((one) => one.in_block), last = stages.findLastIndex((one) => one.in_block);
  const inside = stages.slice(first, last + 1), at_layer = stage.in_block ? layer : -1;
  const blocks = Array.from({ length: pass.n_layer }, (_, l) => {
    if (l === at_layer) { const open = make("div", "gv-open"); open.append(make("span", "gv-open-name", `L${l}`), ...inside.map(box)); return open; }
    const row = make("div", "gv-closed");
    row.append(make("span", "gv-layer", `L${l}`), button("gv-box", "attention", () => go({ stage: "ln_1", layer: l })), button("gv-box", "mlp", () => go({ stage: "ln_2", layer: l })));
    return row;
  });
  return [...stages.slice(0, first).map(box), ...blocks, ...stages.slice(last + 1).map(box)];
}

/** The equation, each symbol over the shape of what it stands for. */
export function equation(pass: Pass, stage: Stage, focus: string, choose: (name: string) => void): HTMLElement[] {
  return stage.equation.map(([text, name]) => {
    if (!name) return make("span", "gv-sign", text);
    const about = pass.content.tensors[name], shape = about ? pass.shape(name) : stage.parameters.find((one) => one.name === name)?.shape;
    const letter = name === "q" ? " gv-is-q" : name === "k" ? " gv-is-k" : name === "v" ? " gv-is-v" : "";
    const el = about ? button(`gv-symbol${name === focus ? " gv-here" : ""}${letter}`, "", () => choose(name)) : make("span", "gv-symbol");
    el.append(make("b", "", text), make("small", "", shape ? times(shape) : ""));
    el.title = name;
    return el;
  });
}

/** The lines of model.py around those that compute the stage, which are lit. */
export function source_lines(pass: Pass, lines: Line[]): HTMLElement[] {
  const text = pass.content.source.text.split("\n"), lit = new Set(lines.flatMap(({ first, last }) => Array.from({ length: last - first + 1 }, (_, i) => first + i)));
  const near = new Set([...lit].flatMap((line) => [line - 2, line - 1, line, line + 1, line + 2]).filter((line) => line >= 1 && line <= text.length));
  const shown_lines = [...near].sort((a, b) => a - b), out: HTMLElement[] = [];
  const indent = Math.min(...shown_lines.map((line) => text[line - 1]!).filter((one) => one.trim()).map((one) => one.length - one.trimStart().length));
  shown_lines.forEach((line, i) => {
    if (i && shown_lines[i - 1] !== line - 1) out.push(make("div", "gv-gap", "⋯"));
    const row = make("div", lit.has(line) ? "gv-code gv-here" : "gv-code");
    row.append(make("span", "gv-number", String(line)), make("code", "", (text[line - 1] ?? "").slice(indent).replace(/ {3,}#/, "  #") || " "));
    out.push(row);
  });
  return out;
}

const most_terms = 6;

/** The arithmetic of the chosen cell: steps, the largest terms, the sum, and what the model computed. */
export function receipt_rows(paid: Receipt, unit: string): HTMLElement[] {
  const rows: HTMLElement[] = [], line = (words: string, value: string, name = "") => {
    const el = make("div", `gv-receipt-row${name}`);
    el.append(make("span", "", words), make("span", "gv-value", value));
    rows.push(el);
  };
  for (const [what, value] of paid.steps) line(what, shown(value));
  const products = paid.a.map((a, i) => (paid.b ? a * paid.b[i]! : a)), order = products.map((_, i) => i).sort((i, j) => Math.abs(products[j]!) - Math.abs(products[i]!));
  const told = paid.rule !== "softmax" && paid.rule !== "given";
  if (told) {
    const kept = order.length <= most_terms + 1 ? [...products.keys()] : order.slice(0, most_terms);
    for (const i of kept) line(paid.labels[i] ?? "", paid.b ? `${shown(paid.a[i]!)} × ${shown(paid.b[i]!)} = ${shown(products[i]!)}` : shown(products[i]!));
    const rest = products.length - kept.length;
    if (rest) line(`${rest} smaller terms`, shown(products.reduce((sum, one) => sum + one, 0) - kept.reduce((sum, i) => sum + products[i]!, 0)));
  }
  if (paid.bias !== null) line(paid.rule === "scale" ? "ε" : "bias", shown(paid.bias));
  line(formula(paid), shown(paid.result), " gv-total");
  line("the model computed", `${shown(paid.recorded)}${unit ? ` ${unit}` : ""}`);
  line("difference, recomputed in float64", `${paid.error ? paid.error.toExponential(0).replace("-", "−") : "0"} ${paid.passed ? "✓" : "✕"}`, paid.passed ? " gv-passed" : " gv-missed");
  if (paid.note) rows.push(make("p", "gv-note", paid.note));
  return rows;
}

/** The arithmetic on one line: 0.31 × 1.20 + … + bias = 0.87. */
export function formula(paid: Receipt): string {
  const parts = paid.a.map((a, i) => (paid.b ? `${shown(a)} × ${shown(paid.b[i]!)}` : shown(a)));
  let text = (parts.length > 3 ? [parts[0], "…", parts.at(-1)] : parts).join(" + ");
  if (paid.bias !== null) text += ` + ${shown(paid.bias)}`;
  if (paid.divisor !== 1) text = parts.length > 1 || paid.bias !== null ? `(${text}) ÷ ${shown(paid.divisor)}` : `${text} ÷ ${shown(paid.divisor)}`;
  return paid.outer ? `√(${text})` : text;
}

/** A few cells of the chosen row around the chosen one, with their numbers. */
export function close_up(pass: Pass, name: string, layer: number | null, at: number[], theme: Theme, choose: (column: number) => void): HTMLElement[] {
  const n = pass.shape(name).at(-1)!, chosen = at.at(-1)!, wide = 9, first = Math.max(0, Math.min(n - wide, chosen - 4)), { scale, at: byte } = colour_scale(pass, name, theme);
  const axis = pass.axes(name).at(-1)!, words = axis === "key" || axis === "pos" || axis === "query" ? pass.tokens : axis === "d_vocab" ? pass.columns : null;
  return Array.from({ length: Math.min(wide, n) }, (_, i) => {
    const column = first + i, value = pass.value(name, layer, ...at.slice(0, -1), column), cell = button(`gv-cell${column === chosen ? " gv-here" : ""}`, "", () => choose(column));
    cell.append(make("span", "gv-cell-name", words?.[column] ?? String(column)), make("span", "gv-cell-value", shown(value)));
    const number = cell.lastElementChild as HTMLElement;
    if (Number.isFinite(value) && pass.content.tensors[name]!.colour !== "id") { number.style.background = scale.css[byte(value)]!; number.style.color = scale.ink[byte(value)]!; }
    return cell;
  });
}

export interface Answer { given: number | null; right: boolean }

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
    out.push(make("p", "gv-explained", `${answer.right ? "Right." : "Not quite."} ${feedback} ${question.kind === "number" ? `It is ${shown(question.answer)}${question.unit ? ` ${question.unit}` : ""}. ` : ""}${question.explanation}`));
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

/** What breaks without it: loss and next token beside the true ones. */
export function switch_parts(one: Switch, result: Switched | undefined, waiting: string, press: () => void): HTMLElement {
  const el = make("div", "gv-switch"), head = make("div", "gv-switch-head");
  const run = button("gv-small", result ? "shown below" : "try it", press);
  run.disabled = Boolean(result);
  head.append(make("b", "", one.title), ...(result ? [] : [run]));
  el.append(head, make("p", "gv-note", one.sentence));
  if (waiting && !result) el.append(make("p", "gv-note", waiting));
  if (!result) return el;
  const table = make("div", "gv-with"), number = (value: number | null) => (value === null ? "NaN" : value.toFixed(3));
  const word = (next: { word: string; prob: number }[]) => next.slice(0, 2).map((one) => `${one.word} ${one.prob.toFixed(2)}`).join("  ");
  table.append(make("span"), make("b", "", "the model"), make("b", "", "without it"), make("span", "", "loss, nats"), make("span", "gv-value", number(result.true_loss)), make("span", "gv-value", number(result.loss)),
    make("span", "", "next token"), make("span", "gv-value", word(result.true_next)), make("span", "gv-value", word(result.next)));
  el.append(table, make("code", "gv-line", result.code));
  return el;
}

/** The stages as stops of a line. */
export function rail(pass: Pass, stage: Stage, layer: number, go: Go): HTMLElement[] {
  return pass.content.stages.map((one) => {
    const state = one.number < stage.number ? " gv-past" : one.number === stage.number ? " gv-here" : "", el = button(`gv-stop${state}${one.in_block ? " gv-in-block" : ""}`, "", () => go({ stage: one.id, layer }));
    el.append(make("i"), make("span", "", one.id));
    return el;
  });
}

/** Which tensors of two passes differ most, layer by layer. */
export function changes(one: Pass, other: Pass, open: (name: string, layer: number | null) => void): HTMLElement[] {
  const found = Object.keys(one.content.tensors).flatMap((name) => (one.layered(name) ? Array.from({ length: one.n_layer }, (_, layer) => layer) : [null]).map((layer) => ({ name, layer, share: relative_change(one, other, name, layer) })));
  return found.filter(({ share }) => Number.isFinite(share)).sort((a, b) => b.share - a.share).slice(0, 16).map(({ name, layer, share }, _, all) => {
    const el = button("gv-change", "", () => open(name, layer)), bar = make("i");
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
