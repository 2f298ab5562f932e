/**
 * The frontend messages that the driver does not offer in bulk: several statements, their COPY data and pipelined
 * Bind/Execute in one buffer and one write. The driver keeps the connection, its TLS and its parser.
 * Layouts: chapter "Message Formats" of the Postgres manual.
 */
import type { Client, Connection, Submittable } from "pg";
import { ByteWriter } from "../../../src/core/bytes.ts";
import { failpoint } from "../../../src/core/failpoint.ts";

const QUERY = 0x51; // Q
const PARSE = 0x50; // P
const BIND = 0x42; // B
const EXECUTE = 0x45; // E
const SYNC = 0x53; // S
const COPY_DATA = 0x64; // d
const COPY_DONE = 0x63; // c

/** Larger frames gain nothing; smaller ones cost the server a call each. */
const COPY_FRAME_BYTES = 64 * 1024;
/** A buffer that one huge row has blown up is not kept. */
const KEPT_BYTES_MAX = 16 * 1024 * 1024;

const COPY_HEADER = Buffer.concat([Buffer.from("PGCOPY\n\xff\r\n\0", "latin1"), Buffer.alloc(8)]);

/** Builds what is sent in one write. Reused; `reset` before each use. */
export class Frames {
  out = new ByteWriter(1024 * 1024);
  #frame = 0;

  reset(): void {
    if (this.out.bytes.length > KEPT_BYTES_MAX) this.out = new ByteWriter(1024 * 1024);
    this.out.reset();
  }

  /** Statements separated by semicolons: one transaction, unless they say otherwise. */
  query(sql: string): void {
    const at = this.#begin(QUERY);
    this.out.utf8(sql);
    this.out.byte(0);
    this.#end(at);
  }

  parse(name: string, sql: string): void {
    const at = this.#begin(PARSE);
    this.out.ascii(name);
    this.out.byte(0);
    this.out.utf8(sql);
    this.out.byte(0);
    this.#int16(0);
    this.#end(at);
  }

  /**
   * Begins a Bind to the unnamed portal. `formats` are written behind, one per parameter, then the parameters: reserve
   * them with `parameters`, fill `out`, and close with `executeBound`.
   */
  bind(statement: string): number {
    const at = this.#begin(BIND);
    this.out.byte(0);
    this.out.ascii(statement);
    this.out.byte(0);
    return at;
  }

  /** Writes the parameter count and room for its format codes (all text); returns where the codes lie. */
  parameters(count: number): number {
    const { out } = this;
    out.reserve(4 + count * 2);
    this.#int16(count);
    const codes = out.length;
    out.bytes.fill(0, codes, codes + count * 2);
    out.length = codes + count * 2;
    this.#int16(count);
    return codes;
  }

  /** Marks parameter `ordinal` as binary. */
  asBinary(codes: number, ordinal: number): void {
    this.out.bytes[codes + ordinal * 2 + 1] = 1;
  }

  /** A parameter in text form. */
  textParameter(text: string): void {
    const { out } = this;
    const at = out.length;
    out.reserve(4);
    out.length = at + 4;
    out.utf8(text);
    writeInt32(out.bytes, at, out.length - at - 4);
  }

  executeBound(bound: number): void {
    this.#int16(0);
    this.#end(bound);
    const at = this.#begin(EXECUTE);
    this.out.byte(0);
    this.out.reserve(4);
    writeInt32(this.out.bytes, this.out.length, 0);
    this.out.length += 4;
    this.#end(at);
  }

  sync(): void {
    this.#end(this.#begin(SYNC));
  }

  /** Begins the data of the next COPY statement of the query before. */
  beginCopy(binary: boolean): void {
    this.#frame = this.#begin(COPY_DATA);
    if (binary) this.out.copy(COPY_HEADER, 0, COPY_HEADER.length);
  }

  /** Call behind each row: closes the frame when it is full. */
  rowWritten(): void {
    if (this.out.length - this.#frame < COPY_FRAME_BYTES) return;
    this.#end(this.#frame);
    this.#frame = this.#begin(COPY_DATA);
  }

  endCopy(binary: boolean): void {
    if (binary) this.#int16(-1);
    this.#end(this.#frame);
    this.#end(this.#begin(COPY_DONE));
  }

  #begin(type: number): number {
    const { out } = this;
    out.reserve(5);
    const at = out.length;
    out.bytes[at] = type;
    out.length = at + 5;
    return at;
  }

  #end(at: number): void {
    writeInt32(this.out.bytes, at + 1, this.out.length - at - 1);
  }

  #int16(value: number): void {
    const { out } = this;
    out.reserve(2);
    out.bytes[out.length] = value >> 8;
    out.bytes[out.length + 1] = value;
    out.length += 2;
  }
}

export function writeInt32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 24;
  bytes[at + 1] = value >> 16;
  bytes[at + 2] = value >> 8;
  bytes[at + 3] = value;
}

/** What the server answered: rows of all statements as text, and the tag of each statement that completed. */
export interface Answer {
  readonly rows: readonly (readonly (string | null)[])[];
  readonly tags: readonly string[];
}

/** A statement failed; `completed` statements before it in the same write did not. */
export class StatementFailure extends Error {
  readonly completed: number;

  constructor(cause: unknown, completed: number) {
    super("a statement failed", { cause });
    this.name = "StatementFailure";
    this.completed = completed;
  }
}

/**
 * Sends the buffers and gathers the answers up to ReadyForQuery. Settles only when the bytes have left the buffers too:
 * after an early error the rest of a COPY is still being written, and the buffers are about to be used again.
 */
export function exchange(client: Client, buffers: readonly Uint8Array[], hooks: Hooks = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    client.query(new Exchange(buffers, resolve, reject, hooks));
  });
}

export interface Hooks {
  /** Takes the lines of a COPY TO STDOUT. */
  readonly onLine?: LineReader | undefined;
  /** All bytes have left the process. */
  readonly onWritten?: (() => void) | undefined;
}

/** Takes a line of a COPY TO STDOUT; its bytes are the driver's again when it returns. */
export type LineReader = (line: Buffer) => void;

class Exchange implements Submittable {
  readonly #buffers: readonly Uint8Array[];
  readonly #resolve: (answer: Answer) => void;
  readonly #reject: (error: Error) => void;
  readonly #rows: (string | null)[][] = [];
  readonly #tags: string[] = [];
  readonly #hooks: Hooks;
  #written = false;
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
    stream.cork();
    for (const [i, buffer] of this.#buffers.entries()) {
      if (i < this.#buffers.length - 1) stream.write(buffer);
      else stream.write(buffer, () => this.#allWritten());
    }
    stream.uncork();
    // Of a large message the kernel has a part by now.
    failpoint("postgres-sink.sent");
  }

  // The rest is called by the driver, one method per backend message.
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
    // An error of the connection, unlike one of the server, leaves nothing to be written.
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
