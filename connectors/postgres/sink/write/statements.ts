/** The prepared statements of one session, by purpose. */
import type { Frames } from "../wire.ts";

/**
 * Each table and set of unchanged columns needs a statement; beyond this number all are forgotten and prepared again.
 */
const STATEMENTS_MAX = 1000;

export class PreparedStatements {
  readonly #names = new Map<string, string>();
  #added: string[] = [];
  #counter = 0;

  /** True if DEALLOCATE ALL should precede the next message. */
  get full(): boolean {
    return this.#names.size > STATEMENTS_MAX;
  }

  /** The name of the statement; parses it in this message if the session does not have it yet. */
  use(frames: Frames, purpose: string, sql: () => string): string {
    const known = this.#names.get(purpose);
    if (known !== undefined) return known;
    const name = `s${this.#counter++}`;
    frames.parse(name, sql());
    this.#names.set(purpose, name);
    this.#added.push(purpose);
    return name;
  }

  /** The message was answered without an error. */
  confirm(): void {
    this.#added = [];
  }

  /** True where statements of the failed message may or may not be there. */
  get uncertain(): boolean {
    return this.#added.length > 0;
  }

  clear(): void {
    this.#names.clear();
    this.#added = [];
  }
}
