// The one bundle: an anywidget module, and a page that draws itself where it finds its payload.
import { Board } from "./board.ts";
import { page_host, widget_host, type Model } from "./host.ts";
import type { RawBoard } from "./payload.ts";

function render({ model, el }: { model: Model; el: HTMLElement }): () => void {
  const stop = new AbortController(), board = new Board(widget_host(model, stop.signal));
  board.attach(el);
  return () => { stop.abort(); board.close(); };
}

const data = typeof document === "undefined" ? null : document.getElementById("gptviz-payload");
const place = data && document.getElementById("gptviz-board");
if (data && place) {
  const text = data.textContent!;
  new Board(page_host(JSON.parse(text) as RawBoard), text.length).attach(place);
}

export default { render };
