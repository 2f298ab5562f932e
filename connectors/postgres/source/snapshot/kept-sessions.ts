/** What may be used again as it is: nothing is open or running in it. */
export interface KeptSession {
  end(): void;
  /** It was lost meanwhile. */
  readonly isLost: boolean;
}

/** Making a session costs the server a process and a look at its catalogue: many small tables are read in few. */
const KEPT_COUNT_MAX = 2;
const KEPT_MS = 2_000;

/** Sessions of one server that have just been used. */
export class KeptSessions<Session extends KeptSession> {
  readonly #kept: Session[] = [];
  #life = 0;
  #timer: NodeJS.Timeout | undefined;

  /** Another number after `clear`: what was taken before is not kept again. */
  get life(): number {
    return this.#life;
  }

  take(): Session | undefined {
    let session = this.#kept.pop();
    while (session?.isLost === true) session = this.#kept.pop();
    return session;
  }

  /** Ends it where it is not to be kept. */
  keep(session: Session, life: number): void {
    if (life !== this.#life || this.#kept.length >= KEPT_COUNT_MAX) session.end();
    else {
      this.#kept.push(session);
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#endAll(), KEPT_MS).unref();
    }
  }

  /** What comes from here on may be another server. */
  clear(): void {
    this.#life++;
    this.#endAll();
  }

  #endAll(): void {
    clearTimeout(this.#timer);
    for (const session of this.#kept.splice(0)) session.end();
  }
}
