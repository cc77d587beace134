// Before and after: the views of a step beside those of another one, so that the panels can show either or the change.
import type { View } from "./payload.ts";

const lately = new WeakMap<View, { before: View; merged: View }>();

/** The views of step `now`, where it can be with what they were at step `then`; the rest as they are. */
export function since(views: View[], then: View[] | undefined, now: number, before: number): View[] {
  if (!then) return views;
  return views.map((view) => {
    const other = then.find((one) => one.kind === view.kind), known = lately.get(view);
    if (!other || other === view || !comparable(view, other)) return view;
    if (known?.before === other) return known.merged;
    const merged = view.kind === "attention" ? with_other(view, other, now, before) : with_change(view, other, before);
    lately.set(view, { before: other, merged });
    return merged;
  });
}

/** Of a text too long for all heads at once only tiles are here: those are not compared. */
const comparable = (view: View, other: View): boolean =>
  (view.kind === "attention" && Boolean(view.arrays.pattern && other.arrays.pattern && !view.arrays.other_pattern) && view.arrays.pattern!.values.length === other.arrays.pattern!.values.length) ||
  (view.kind === "tokens" && view.arrays.loss!.values.length === other.arrays.loss!.values.length);

const with_other = (view: View, other: View, now: number, before: number): View =>
  ({ ...view, arrays: { ...view.arrays, other_pattern: other.arrays.pattern!, ...(other.arrays.sums ? { other_sums: other.arrays.sums } : {}) }, labels: { ...view.labels, compared: [`step ${now}`, `step ${before}`] }, content: { ...view.content, since: before } });

function with_change(view: View, other: View, before: number): View {
  const values = view.arrays.loss!.values.map((loss, i) => loss - other.arrays.loss!.values[i]!);
  const most = Math.max(...Array.from(values, Math.abs).filter(Number.isFinite), 0.01), name = `value_${(view.labels.value ?? []).length}`;
  return { ...view, arrays: { ...view.arrays, [name]: { shape: [values.length], axes: ["pos"], values } }, range: { ...view.range, [name]: [-most, most] },
           labels: { ...view.labels, value: [...(view.labels.value ?? []), `change of loss since step ${before}`] }, content: { ...view.content, change: name } };
}
