// The line to the kernel: one request at a time, the latest wins, and what was painted is acknowledged.

export interface Ask { ask: string; [name: string]: unknown }
export interface Answer { id: string; error?: string; [name: string]: unknown }

const patience = 2000; // ms: a kernel that is busy or gone must not block the next request for ever

interface Sent { id: string; at: number; wish: Ask }

const same = (a: Ask | null | undefined, b: Ask): boolean => JSON.stringify(a) === JSON.stringify(b);

export class Link {
  private sent: Sent | null = null;
  private open: Sent[] = []; // not answered yet, the oldest first: several where the kernel takes longer than our patience
  private next: Ask | null = null;
  private count = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly name = Math.random().toString(36).slice(2, 8); // two pictures of one widget share a line

  constructor(private send: (message: object) => void, private now: () => number = () => performance.now()) {}

  get busy(): boolean { return this.sent !== null; }

  /** Whether a wish is under way or the next: one that a later wish overtook is not. */
  awaits(wish: Ask): boolean { return same(this.next, wish) || this.open.some((one) => same(one.wish, wish)); }

  ask(wish: Ask): void {
    if (this.sent && this.now() - this.sent.at < patience) {
      clearTimeout(this.timer);
      this.next = same(this.sent.wish, wish) ? null : wish; // under way already, as when the kernel echoes a step
      if (!this.next) return;
      this.timer = setTimeout(() => this.flush(), patience);
      return;
    }
    this.next = null;
    this.sent = { id: `${this.name}-${++this.count}`, at: this.now(), wish };
    this.open.push(this.sent);
    this.send({ ...wish, id: this.sent.id });
  }

  /** The wish that an answer is to. A late answer counts until a later request was answered: a slow kernel must come to show something. */
  answered(answer: Answer): Ask | null {
    const at = this.open.findIndex((one) => one.id === answer.id);
    return at < 0 ? null : this.open.splice(0, at + 1).at(-1)!.wish;
  }

  /** Call after an answer was painted: once it is that to the last request, the kernel may send again, and the latest wish is sent. */
  painted(): void {
    if (this.open.length) return;
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
