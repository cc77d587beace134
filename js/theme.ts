// The colours in force: read from the CSS variables of the widget's root, so that a page may override them.
import { luminance, make_diverging, make_scale, points, type Rgb, type Scale } from "./colour.ts";

export interface Theme {
  dark: boolean; paper: string; raised: string; sunk: string; ink: string; ink_2: string; ink_3: string; rule: string;
  rule_2: string; accent: string; on_accent: string; accent_soft: string; good: string; good_soft: string; series: string[];
  sans: string; mono: string; sequential: Scale; loss: Scale; diverging: Scale;
}

const scales = {
  light: { sequential: make_scale(points.light.sequential), loss: make_scale(points.light.loss), diverging: make_diverging(points.light) },
  dark: { sequential: make_scale(points.dark.sequential), loss: make_scale(points.dark.loss), diverging: make_diverging(points.dark) },
};

export function read_theme(root: HTMLElement, dark: boolean): Theme {
  const style = getComputedStyle(root);
  const get = (name: string) => style.getPropertyValue(`--gv-${name}`).trim();
  return {
    dark, paper: get("paper"), raised: get("raised"), sunk: get("sunk"), ink: get("ink"), ink_2: get("ink-2"),
    ink_3: get("ink-3"), rule: get("rule"), rule_2: get("rule-2"), accent: get("accent"), on_accent: get("on-accent"),
    accent_soft: get("accent-soft"), good: get("good"), good_soft: get("good-soft"), series: [1, 2, 3, 4].map((i) => get(`cat-${i}`)),
    sans: get("sans"), mono: get("mono"), ...scales[dark ? "dark" : "light"],
  };
}

/** Whether the surroundings are dark: what the notebook says, else the background behind us, else the system. */
export function is_dark(root: HTMLElement): boolean {
  const body = document.body, said = body.dataset.jpThemeLight;
  if (said !== undefined) return said === "false";
  if (/\b(vscode-dark|vscode-high-contrast|dark|dark-theme)\b/.test(body.className)) return true;
  if (/\b(vscode-light|light|light-theme)\b/.test(body.className)) return false;
  for (let el = root.parentElement; el; el = el.parentElement) {
    const colour = getComputedStyle(el).backgroundColor.match(/[\d.]+/g)?.map(Number);
    if (colour && colour.length >= 3 && (colour[3] ?? 1) > 0.5) return luminance(colour.slice(0, 3) as Rgb) < 0.179;
  }
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Call `changed` when the surroundings may have turned dark or light. */
export function watch_theme(changed: () => void, signal: AbortSignal): void {
  const observer = new MutationObserver(changed);
  const options = { attributes: true, attributeFilter: ["data-jp-theme-light", "class", "data-theme", "theme", "style"] };
  for (const el of [document.documentElement, document.body]) observer.observe(el, options);
  for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"])
    matchMedia(query).addEventListener("change", changed, { signal });
  signal.addEventListener("abort", () => observer.disconnect());
}

