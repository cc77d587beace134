// Where a board lives: a widget with a kernel behind it, or a page that holds all frames.
import type { RawBoard, Selection } from "./payload.ts";

export interface Host {
  /** A kernel may answer. */
  live: boolean;
  payload(): RawBoard;
  /** The end of the saved picture's data, which a living board hides. */
  picture(): string;
  get(name: keyof Selection): number | null;
  set(changes: Partial<Selection>): void;
  on_change(call: () => void): void;
  send(message: object): void;
  on_message(call: (content: any, buffers: DataView[]) => void): void;
}

/** The part of anywidget's model that is used. */
export interface Model {
  get(name: string): any;
  set(name: string, value: unknown): void;
  save_changes(): void;
  on(event: string, call: (...args: any[]) => void): void;
  off(event: string, call: (...args: any[]) => void): void;
  send(content: object): void;
}

export function widget_host(model: Model, signal: AbortSignal): Host {
  const listen = (event: string, call: (...args: any[]) => void) => {
    model.on(event, call);
    signal.addEventListener("abort", () => model.off(event, call));
  };
  return {
    live: true,
    payload: () => model.get("_payload"),
    picture: () => model.get("_picture") ?? "",
    get: (name) => model.get(name),
    set(changes) {
      for (const [name, value] of Object.entries(changes)) model.set(name, value);
      model.save_changes();
    },
    // Some front ends deliver the traits of one message one by one: the caller must gather them.
    on_change(call) { for (const name of ["_payload", "_picture", "step", "layer", "head", "query", "key"]) listen(`change:${name}`, call); },
    send(message) { try { model.send(message); } catch { /* the kernel is gone: the time-out says so */ } },
    on_message(call) { listen("msg:custom", call); },
  };
}

export function page_host(payload: RawBoard): Host {
  const selection = { ...payload.selection };
  return {
    live: false, payload: () => payload, picture: () => "", get: (name) => selection[name], set: (changes) => void Object.assign(selection, changes),
    on_change() {}, send() {}, on_message() {},
  };
}
