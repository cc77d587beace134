// The little DOM around the canvases: header, text field, footer, help. Words only through textContent.
import type { Check, RawBoard } from "./payload.ts";
import type { Heading, Panel } from "./panel.ts";

export function make<K extends keyof HTMLElementTagNameMap>(tag: K, name = "", words = ""): HTMLElementTagNameMap[K] {
  const el = document.createElement(tag);
  if (name) el.className = name;
  if (words) el.textContent = words;
  return el;
}

export interface Mounted {
  panel: Panel; section: HTMLElement; title: HTMLElement; subtitle: HTMLElement; fold: HTMLButtonElement; controls: HTMLElement; stage: HTMLElement; lines: HTMLElement;
  base: HTMLCanvasElement; over: HTMLCanvasElement; layout: any; laid: string; drawn: string;
}

/** A section with a heading and two canvases: the picture, and above it what moves with the mouse. */
export function mount(panel: Panel): Mounted {
  const section = make("section", `gv-panel gv-panel-${panel.name}`), head = make("div", "gv-heading");
  const title = make("h3", "gv-title"), subtitle = make("span", "gv-subtitle"), stage = make("div", "gv-stage");
  const base = make("canvas", "gv-canvas"), over = make("canvas", "gv-canvas gv-over");
  stage.tabIndex = 0;
  stage.setAttribute("role", panel.name === "step" ? "slider" : "img");
  for (const canvas of [base, over]) canvas.setAttribute("aria-hidden", "true");
  const fold = make("button", "gv-fold"), controls = make("span", "gv-controls");
  fold.type = "button"; fold.hidden = true; controls.hidden = true;
  head.append(fold, title, subtitle, controls);
  stage.append(base, over);
  const lines = make("dl", "gv-lines");
  lines.hidden = true;
  section.append(head, stage, lines);
  return { panel, section, title, subtitle, fold, controls, stage, lines, base, over, layout: null, laid: "", drawn: "" };
}

/** `folded` is null for a panel that cannot fold, or that has nothing to unfold: then `instead` says why; `whose`: of two passes that are compared, the one that it shows. */
export function show_heading(mounted: Mounted, heading: Heading, folded: boolean | null, whose = "", instead = ""): void {
  put(mounted.title, heading.title);
  put(mounted.subtitle, instead || folded ? instead : [whose, heading.subtitle].filter(Boolean).join(" · "));
  mounted.fold.hidden = folded === null;
  put(mounted.fold, folded ? "▸ show" : "▾ hide");
  mounted.fold.setAttribute("aria-expanded", String(!folded));
  mounted.fold.setAttribute("aria-label", `${folded ? "show" : "hide"} ${heading.title}`);
  mounted.stage.hidden = Boolean(folded || instead);
  if (folded) mounted.controls.hidden = true;
  const head = mounted.title.parentElement!;
  if (!heading.keys || head.querySelector(".gv-keys")) return;
  const keys = make("span", "gv-keys");
  for (const [what, caps] of heading.keys) keys.append(make("span", "", what), ...caps.map((cap) => make("kbd", "", cap)));
  head.append(keys);
}

/** Text to copy, below a picture: each line in an element of its own, which a click selects whole. */
export function show_lines({ lines }: Pick<Mounted, "lines">, wanted: [string, string][]): void {
  const name = JSON.stringify(wanted);
  lines.hidden = !wanted.length;
  if (lines.dataset.made === name) return;
  lines.dataset.made = name;
  lines.replaceChildren(...wanted.flatMap(([caption, text]) => [make("dt", "", caption), make("dd", "", text)]));
}

/** Beside the slider: play, and the step to compare with. */
export function step_controls(): { play: HTMLButtonElement; label: HTMLElement; since: HTMLSelectElement } {
  const play = make("button", "gv-play", "▶ Play"), label = make("label", "gv-control gv-since"), since = make("select");
  play.type = "button";
  play.setAttribute("aria-label", "play the recorded steps");
  label.append(make("span", "", "compare with step"), since);
  return { play, label, since };
}

/** The steps to compare with, made anew only when there are others. */
export function show_steps(select: HTMLSelectElement, steps: number[], chosen: number | null): void {
  const name = String(steps);
  if (select.dataset.made !== name) {
    select.replaceChildren(...["", ...steps].map((step) => { const one = make("option", "", step === "" ? "none" : String(step)); one.value = String(step); return one; }));
    select.dataset.made = name;
  }
  if (select.value !== String(chosen ?? "")) select.value = String(chosen ?? "");
}

/** Set text only where it differs: a screen reader hears each change. */
export function put(el: HTMLElement, words: string): void {
  if (el.textContent !== words) el.textContent = words;
}

/** Why nothing can be asked for: of a page, which never has a kernel, and of a board in a notebook whose kernel is gone. */
export const without_kernel = (page: boolean): string =>
  page ? "saved page: new texts and edits need a notebook" : "no kernel answers: new texts and edits need one";

export function header(board: RawBoard): { el: HTMLElement; saved: HTMLElement; compared: HTMLElement; steps: HTMLElement; readout: HTMLElement } {
  const el = make("header", "gv-header"), mark = make("span", "gv-mark", "gpt"), steps = make("div", "gv-steps"), readout = make("span", "gv-readout");
  mark.append(make("b", "", "viz"));
  const facts = make("span", "gv-facts"), saved = make("span", "gv-saved"), compared = make("span", "gv-compared");
  facts.append(make("strong", "", board.title), document.createTextNode(board.facts.length ? `  ${board.facts.map(unbroken).join(" · ")}` : ""));
  el.append(mark, make("span", "gv-name", board.name), make("span", "gv-bar"), facts, compared, saved, steps);
  return { el, saved, compared, steps, readout };
}

/** A fact that no line ends within: "0.2 M parameters". */
const unbroken = (fact: string): string => fact.replaceAll(" ", "\u00a0");

export function text_form(board: RawBoard): { el: HTMLElement; input: HTMLInputElement; run: HTMLButtonElement; count: HTMLElement; error: HTMLElement } {
  const el = make("div", "gv-form"), input = make("input", "gv-text"), count = make("span", "gv-count"), error = make("p", "gv-error");
  input.type = "text"; input.value = board.text; input.spellcheck = false; input.autocomplete = "off";
  input.setAttribute("aria-label", "text for the model");
  error.setAttribute("role", "alert");
  error.hidden = true;
  const field = make("div", "gv-field"), run = make("button", "gv-run", "Run ⏎");
  run.type = "button";
  field.append(input, count, run);
  el.append(field, error);
  return { el, input, run, count, error };
}

export function footer(checks: Check[], cost: string): HTMLElement {
  const el = make("footer", "gv-footer");
  for (const check of [...checks].sort((a, b) => Number(a.passed) - Number(b.passed))) {
    const one = make("span", check.passed ? "gv-check" : "gv-check gv-failed");
    one.append(make("b", "", check.passed ? "✓" : "✕"), document.createTextNode(` ${check.name} `),
               make("span", "", check.passed ? `max error ${check.error}` : `error ${check.error}, at most ${check.bound} allowed`));
    el.append(one);
  }
  const right = make("span", "gv-cost", cost), help = make("button", "gv-help-button", "keys ");
  help.type = "button";
  help.append(make("kbd", "", "?"));
  el.append(right, help);
  return el;
}

const keys: [string[], string, "needs a kernel"?][] = [
  [["Tab"], "next view"], [["←", "→", "↑", "↓"], "move inside a view: head, query and key, token, step"], [["Home", "End"], "first, last"],
  [["[", "]"], "head before, head after"], [["{", "}"], "layer before, layer after"], [["Space"], "on the step slider: play, pause"], [["s"], "in the grid of heads: sort by the score below them; a line says by which"], [["m"], "mute the head, or let it speak again", "needs a kernel"],
  [["+", "−"], "in the large head: fewer or more tokens"], [["Esc"], "unlock the cell, then the head"], [["?"], "this list"],
];

export function help(): HTMLElement {
  const el = make("div", "gv-help"), list = make("dl");
  el.setAttribute("role", "note");
  el.hidden = true;
  for (const [caps, words, needs] of keys) {
    const term = make("dt"), what = make("dd", "", words);
    term.append(...caps.map((cap) => make("kbd", "", cap)));
    if (needs) what.append(make("span", "gv-needs", needs));
    list.append(term, what);
  }
  el.append(make("h3", "gv-title", "Keys"), list);
  return el;
}
