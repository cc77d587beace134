// Which views belong to a step and a text: those of the payload, the frames that a page holds, those that the kernel sent.
import { decode_view, type RawBoard, type RawFrame, type RawView, type View } from "./payload.ts";

const most = 64; // frames kept: a long run must not fill the browser

export class Frames {
  text = "";
  private own: View[] = []; // those of the payload: a frame repeats only what changed
  private decoded = new Map<string, View[]>();
  private undecoded = new Map<string, RawFrame>();
  private lasting = new Map<string, View>(); // views that are those of a text at every step, by kind
  private fresh = new Map<string, View>(); // the newest views that belong to every step, by kind

  private name = (step: number | null): string => `${step} ${this.text}`;

  /** Start over with a payload; gives its views. */
  begin(board: RawBoard): View[] {
    this.text = board.text;
    this.decoded.clear();
    for (const frame of board.frames ?? []) this.undecoded.set(this.name(frame.step), frame);
    this.own = board.views.map((view) => decode_view(view));
    for (const view of this.own) if (this.fresh.has(view.kind)) this.fresh.set(view.kind, view);
    if (!board.frames) this.decoded.set(this.name(board.selection.step), this.own); // not of the step chosen since
    return this.own;
  }

  /** The views of a step, if they are here. A page holds many frames: each is decoded when it is looked at. */
  at(step: number | null): View[] | undefined {
    const name = this.name(step), raw = step === null ? undefined : this.undecoded.get(name);
    if (raw && !this.decoded.has(name)) this.decoded.set(name, this.decode(raw));
    return this.decoded.get(name);
  }

  /** Keep a frame that the kernel sent; one of another text takes the place of all before. */
  take(frame: RawFrame, buffers: DataView[]): View[] {
    if (frame.text !== this.text) { this.text = frame.text; this.decoded.clear(); this.undecoded.clear(); }
    const views = this.decode(frame, buffers);
    this.decoded.set(this.name(frame.step), views);
    if (this.decoded.size > most) this.decoded.delete(this.decoded.keys().next().value!);
    return views;
  }

  /** News of views that belong to every step. */
  freshen(raws: RawView[], buffers: DataView[]): void {
    for (const raw of raws) this.fresh.set(raw.kind, decode_view(raw, buffers));
  }

  /** The views of a frame with the fresh ones in the place of their kinds. */
  newest = (views: View[]): View[] => views.map((view) => this.fresh.get(view.kind) ?? view);

  private decode(frame: RawFrame, buffers: DataView[] = []): View[] {
    return frame.views.map((view, i) => (view ? this.decode_one(view, buffers) : this.own[i]!));
  }

  /** A view that shows all steps is the same in every frame of its text: its details stay. */
  private decode_one(raw: RawView, buffers: DataView[]): View {
    if (!raw.content?.every_step) return decode_view(raw, buffers);
    const known = this.lasting.get(raw.kind);
    if (known && JSON.stringify(known.content) === JSON.stringify(raw.content)) return known;
    const view = decode_view(raw, buffers);
    this.lasting.set(raw.kind, view);
    return view;
  }
}
