// The line to the kernel: one request at a time, the latest wins, and what was painted is acknowledged.

export interface Ask { ask: string; [name: string]: unknown }
export interface Answer { id: string; error?: string; [name: string]: unknown }

const patience = 2000; // ms: a kernel that is busy or gone must not block the next request for ever

export class Link {
  private sent: { id: string; at: number; wish: Ask } | null = null;
  private next: Ask | null = null;
  private count = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly name = Math.random().toString(36).slice(2, 8); // two pictures of one widget share a line

  constructor(private send: (message: object) => void, private now: () => number = () => performance.now()) {}

  get busy(): boolean { return this.sent !== null; }

  /** The wish under way. */
  get asked(): Ask | null { return this.sent?.wish ?? null; }

  ask(wish: Ask): void {
    if (this.sent && this.now() - this.sent.at < patience) {
      clearTimeout(this.timer);
      this.next = JSON.stringify(wish) === JSON.stringify(this.sent.wish) ? null : wish; // under way already, as when the kernel echoes a step
      if (!this.next) return;
      this.timer = setTimeout(() => this.flush(), patience);
      return;
    }
    this.next = null;
    this.sent = { id: `${this.name}-${++this.count}`, at: this.now(), wish };
    this.send({ ...wish, id: this.sent.id });
  }

  /** Whether the answer is to the last request; an older one is dropped. */
  answers(answer: Answer): boolean {
    return this.sent !== null && answer.id === this.sent.id;
  }

  /** Call after the answer was painted: the kernel may send again, and the latest wish is sent now. */
  painted(): void {
    if (this.sent) this.send({ ack: this.sent.id });
    this.sent = null;
    this.flush();
  }

  stop(): void { clearTimeout(this.timer); }

  private flush(): void {
    clearTimeout(this.timer);
    const wish = this.next;
    if (wish) { this.next = null; this.ask(wish); }
  }
}
