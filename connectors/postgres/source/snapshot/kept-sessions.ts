/** A session that can be used again as it is: nothing is open or running in it. */
export interface KeptSession {
  end(): void;
  /** It was lost meanwhile. */
  readonly isLost: boolean;
}

/**
 * Creating a session costs the server a process and a look at its catalogue: reads of many small tables share a few
 * sessions.
 */
const KEPT_COUNT_MAX = 2;
const KEPT_MS = 2_000;

/** Sessions of one server that were just used. */
export class KeptSessions<Session extends KeptSession> {
  readonly #kept: Session[] = [];
  #life = 0;
  #timer: NodeJS.Timeout | undefined;

  /** `clear` changes it: sessions that were taken before are not kept again. */
  get life(): number {
    return this.#life;
  }

  take(): Session | undefined {
    let session = this.#kept.pop();
    while (session?.isLost === true) session = this.#kept.pop();
    return session;
  }

  /** Ends the session if it is not kept. */
  keep(session: Session, life: number): void {
    if (life !== this.#life || this.#kept.length >= KEPT_COUNT_MAX) session.end();
    else {
      this.#kept.push(session);
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#endAll(), KEPT_MS).unref();
    }
  }

  /** Connections from here on may lead to another server. */
  clear(): void {
    this.#life++;
    this.#endAll();
  }

  #endAll(): void {
    clearTimeout(this.#timer);
    for (const session of this.#kept.splice(0)) session.end();
  }
}
