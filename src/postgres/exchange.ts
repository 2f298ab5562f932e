/**
 * Sends messages as bytes and collects the server's answers. The driver keeps the connection, its TLS and its parser.
 */
import type { Client, Connection, Submittable } from "pg";
import { failpoint } from "../core/failpoint.ts";

/** The server's answer: rows of all statements as text, and the tag of each completed statement. */
export interface Answer {
  readonly rows: readonly (readonly (string | null)[])[];
  readonly tags: readonly string[];
}

/** A statement failed; the `completed` statements before it in the same write did not. */
export class StatementFailure extends Error {
  readonly completed: number;

  constructor(cause: unknown, completed: number) {
    super("a statement failed", { cause });
    this.name = "StatementFailure";
    this.completed = completed;
  }
}

/**
 * Sends the buffers and collects the answers up to ReadyForQuery. Settles only after the bytes have left the buffers
 * too: after an early error the rest of a COPY is still being written, and the buffers will soon be reused.
 */
export function exchange(client: Client, buffers: readonly Uint8Array[], hooks: Hooks = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    client.query(new Exchange(buffers, resolve, reject, hooks));
  });
}

export interface Hooks {
  /** Receives the lines of a COPY TO STDOUT. */
  readonly onLine?: LineReader | undefined;
  /** All bytes have left the process. */
  readonly onWritten?: (() => void) | undefined;
}

/** Receives a line of a COPY TO STDOUT; its bytes belong to the driver again when it returns. */
type LineReader = (line: Buffer) => void;

class Exchange implements Submittable {
  readonly #buffers: readonly Uint8Array[];
  readonly #resolve: (answer: Answer) => void;
  readonly #reject: (error: Error) => void;
  readonly #rows: (string | null)[][] = [];
  readonly #tags: string[] = [];
  readonly #hooks: Hooks;
  /** Before it is sent there is nothing to wait for: a server that ends the session fails what waits for its turn too. */
  #written = true;
  #settle: (() => void) | undefined;

  constructor(
    buffers: readonly Uint8Array[],
    resolve: (answer: Answer) => void,
    reject: (error: Error) => void,
    hooks: Hooks,
  ) {
    this.#hooks = hooks;
    this.#buffers = buffers;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  submit(connection: Connection): void {
    const { stream } = connection;
    this.#written = false;
    stream.cork();
    for (const [i, buffer] of this.#buffers.entries()) {
      if (i < this.#buffers.length - 1) stream.write(buffer);
      else stream.write(buffer, () => this.#allWritten());
    }
    stream.uncork();
    // The kernel has a part of a large message by now.
    failpoint("postgres-sink.sent");
  }

  // The driver calls the following methods, one per backend message.
  handleRowDescription(): void {}
  handlePortalSuspended(): void {}
  handleEmptyQuery(): void {}
  /** The data follows in the same write. */
  handleCopyInResponse(): void {}

  handleCopyData({ chunk }: { readonly chunk: Buffer }): void {
    this.#hooks.onLine?.(chunk);
  }

  handleDataRow(message: { readonly fields: (string | null)[] }): void {
    this.#rows.push(message.fields);
  }

  handleCommandComplete(message: { readonly text: string }): void {
    this.#tags.push(message.text);
  }

  handleReadyForQuery(): void {
    this.#finish(() => this.#resolve({ rows: this.#rows, tags: this.#tags }));
  }

  handleError(error: unknown): void {
    const completed = this.#tags.length;
    const failure = new StatementFailure(error, completed);
    // After an error of the connection, unlike one of the server, nothing is left to be written.
    const ofServer = error instanceof Error && "severity" in error;
    if (ofServer) this.#finish(() => this.#reject(failure));
    else this.#reject(failure);
  }

  #allWritten(): void {
    this.#written = true;
    this.#settle?.();
    this.#hooks.onWritten?.();
  }

  #finish(settle: () => void): void {
    if (this.#written) settle();
    else this.#settle = settle;
  }
}
