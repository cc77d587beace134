// The one bundle: an anywidget module, and a page that draws itself where it finds its payload.
import { Board } from "./board.ts";
import { page_host, widget_host, type Host, type Model } from "./host.ts";
import type { RawBoard } from "./payload.ts";
import { page_weight } from "./text.ts";
import { Stepper } from "./stepper/stepper.ts";

/** A board of linked views, or the walk through one forward pass. */
const shown = (host: Host, weight = ""): Board | Stepper => (host.payload().name === "step" ? new Stepper(host, weight) : new Board(host, weight));

function render({ model, el }: { model: Model; el: HTMLElement }): () => void {
  const stop = new AbortController(), board = shown(widget_host(model, stop.signal));
  board.attach(el);
  return () => { stop.abort(); board.close(); };
}

const data = typeof document === "undefined" ? null : document.getElementById("gptviz-payload");
const place = data && document.getElementById("gptviz-board");
if (data && place) {
  const { file, own } = data.dataset;
  shown(page_host(JSON.parse(data.textContent!) as RawBoard), page_weight(Number(file), Number(own))).attach(place);
}

export default { render };
