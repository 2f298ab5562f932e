import { randomUUID } from "node:crypto";

/** Identifies the reader across all processes that use the same state one after the other. */
export class Reader {
  #id: string = randomUUID();
  /** The server's id of the session with which this process last read. */
  #session = "";

  load(id: string | undefined): void {
    if (id !== undefined) this.#id = id;
  }

  get id(): string {
    return this.#id;
  }

  get hasRead(): boolean {
    return this.#session !== "";
  }

  reads(session: string): void {
    this.#session = session;
  }

  /**
   * Replaces another session. That session may belong to an earlier process of this state. If that process was only frozen,
   * or this state is a copy, the other process is a stranger from now on, and can't replace this one in the same way.
   */
  replaces(session: string): void {
    if (session !== this.#session) this.#id = randomUUID();
  }
}
