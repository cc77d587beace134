// The controls in a panel's heading: native elements, styled; the board keeps their values.
import { make } from "./chrome.ts";
import type { Mounted } from "./chrome.ts";
import type { Control, Options, Patch } from "./panel.ts";

/** Draw a panel's controls, and again only when they differ: an element that is replaced loses the focus. */
export function show_controls({ controls, panel }: Pick<Mounted, "controls" | "panel">, wanted: Control[], values: Options, changed: (patch: Patch) => void): void {
  controls.hidden = !wanted.length;
  const name = JSON.stringify(wanted);
  if (controls.dataset.made !== name) {
    const focused = controls.querySelector<HTMLElement>(":focus")?.dataset.name;
    controls.replaceChildren(...wanted.map((one) => build(one, panel.name, changed)));
    controls.dataset.made = name;
    if (focused) controls.querySelector<HTMLElement>(`[data-name="${focused}"]`)?.focus();
  }
  for (const one of wanted) set_value(controls.querySelector(`[data-name="${one.name}"]`)!, one, values[one.name]);
}

function build(control: Control, panel: string, changed: (patch: Patch) => void): HTMLElement {
  const holder = make(control.kind === "button" ? "span" : "label", "gv-control"), element = element_of(control);
  element.dataset.name = control.name;
  element.disabled = Boolean(control.disabled);
  element.setAttribute("aria-label", `${control.label}, ${panel}`);
  if (control.kind === "button") element.addEventListener("click", () => changed({ act: control.act, options: control.set }));
  else element.addEventListener(control.kind === "choice" || control.kind === "toggle" ? "change" : "input", () => changed({ options: { [control.name]: value_of(element) } }));
  const words = control.kind === "button" ? [] : [make("span", "", control.label)];
  holder.append(...(control.kind === "toggle" ? [element, ...words] : [...words, element]));
  if (control.kind === "range") holder.append(make("span", "gv-amount"));
  if (control.disabled) holder.append(make("span", "gv-reason", control.disabled));
  return holder;
}

type Element = HTMLInputElement | HTMLSelectElement | HTMLButtonElement;

function element_of(control: Control): Element {
  if (control.kind === "button") {
    const button = make("button", control.primary ? "gv-primary" : "", control.label);
    button.type = "button";
    return button;
  }
  if (control.kind === "choice") {
    const select = make("select");
    for (const [value, words] of control.choices) { const option = make("option", "", words); option.value = value; select.append(option); }
    return select;
  }
  const input = make("input");
  input.type = { toggle: "checkbox", search: "search", range: "range" }[control.kind];
  if (control.kind === "search") input.placeholder = control.hint;
  if (control.kind === "range") Object.assign(input, { min: control.low, max: control.high, step: control.step });
  return input;
}

function value_of(element: Element): unknown {
  if (element instanceof HTMLInputElement && element.type === "checkbox") return element.checked;
  return element instanceof HTMLInputElement && element.type === "range" ? Number(element.value) : element.value;
}

function set_value(element: Element, control: Control, value: unknown): void {
  if (control.kind === "button" || value === undefined) return;
  if (control.kind === "toggle") (element as HTMLInputElement).checked = Boolean(value);
  else if (document.activeElement !== element || control.kind !== "search") element.value = String(value);
  if (control.kind === "range") element.parentElement!.querySelector(".gv-amount")!.textContent = value === control.off ? "all" : `${value}${control.unit ?? ""}`;
}
