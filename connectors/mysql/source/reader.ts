import { randomUUID } from "node:crypto";

/** Who reads, in all processes that have the same state one after the other. */
export class Reader {
  #id: string = randomUUID();
  /** The server's number of the session that this process read by last. */
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
   * Takes the place of another session. Of another process, that had this state before: should it only have been frozen, or the
   * state be a copy, it is a stranger from now on, and does not come back in the same way.
   */
  replaces(session: string): void {
    if (session !== this.#session) this.#id = randomUUID();
  }
}
