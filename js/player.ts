// Walks through the recorded steps by itself: whole steps, to the last one, never round again.
export class Player {
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** `advance` goes one step on and says whether there is a further one; `changed` is told of every start and stop. */
  constructor(private advance: () => boolean, private changed: () => void) {}

  get playing(): boolean { return this.timer !== undefined; }

  /** Start, or pause; `count` steps take about 12 seconds, each 0.2 to 0.7. */
  toggle(count: number): void {
    if (this.playing) return this.stop();
    this.wait(Math.max(200, Math.min(700, 12_000 / count)));
    this.changed();
  }

  private wait(pace: number): void {
    this.timer = setTimeout(() => (this.advance() ? this.wait(pace) : this.stop()), pace);
  }

  stop(): void {
    if (!this.playing) return;
    clearTimeout(this.timer);
    this.timer = undefined;
    this.changed();
  }
}
