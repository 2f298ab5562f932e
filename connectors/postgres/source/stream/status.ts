/**
 * What the source tells the server, and when. It reports how far the server may forget, at most a second late. It reports
 * that it lives, every ten seconds, or every second while it does not read the socket and so can't see requests
 * (wal_sender_timeout counts from the last report). When the server is silent, it asks whether the server lives.
 */
import type { Duplex } from "node:stream";
import { sourceError } from "../errors.ts";

const TICK_MS = 1_000;
const REPORT_MS = 10_000;
/** After this silence the server is asked for a reply; then the time that it has to answer. */
const SILENCE_MS = 10_000;
const REPLY_MS = 20_000;
/** A tick this late means that this process was stopped (SIGSTOP, a suspended machine): the silence was not the server's. */
const TICK_LATE_MS = 5_000;
const FRAME_BYTES = 1 + 4 + 34;
/** Milliseconds from 1970 to 2000. */
const POSTGRES_EPOCH_MS = 946_684_800_000n;

interface StatusOptions {
  readonly socket: Duplex;
  /** True while the socket is intentionally not read: then silence means nothing. */
  readonly reading: () => boolean;
  readonly onSilent: (error: Error) => void;
}

export class StatusReporter implements Disposable {
  readonly #options: StatusOptions;
  readonly #timer: NodeJS.Timeout;
  #acknowledged = 0n;
  #reported = 0n;
  #reportedAtMs = performance.now();
  #heardAtMs = performance.now();
  #askedAtMs: number | undefined;
  #tickedAtMs = performance.now();

  constructor(options: StatusOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /** Never moves back. The value is sent as it is: the next commit record may begin exactly there. */
  acknowledge(commit: bigint): void {
    if (commit > this.#acknowledged) this.#acknowledged = commit;
  }

  /** Bytes were received. */
  heard(): void {
    this.#heardAtMs = performance.now();
    this.#askedAtMs = undefined;
  }

  report(replyRequested = false): void {
    const { socket } = this.#options;
    this.#reported = this.#acknowledged;
    this.#reportedAtMs = performance.now();
    if (socket.writable) socket.write(statusFrame(this.#acknowledged, replyRequested));
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const now = performance.now();
    const late = now - this.#tickedAtMs > TICK_LATE_MS;
    this.#tickedAtMs = now;
    const reading = this.#options.reading();
    if (late || !reading) this.heard();
    if (this.#askedAtMs !== undefined && now - this.#askedAtMs >= REPLY_MS) {
      const seconds = Math.round((now - this.#heardAtMs) / 1000);
      const message = `the server has been silent for ${seconds} s and did not answer when asked`;
      this.#options.onSilent(sourceError("MR2022", "retryable", message, { reason: "silent" }));
      return;
    }
    if (this.#askedAtMs === undefined && now - this.#heardAtMs >= SILENCE_MS) {
      this.#askedAtMs = now;
      this.report(true);
    } else if (this.#acknowledged > this.#reported || !reading || now - this.#reportedAtMs >= REPORT_MS) {
      this.report();
    }
  }
}

/** CopyData with a Standby status update: written, flushed and applied are the same, because sinks only know durable. */
export function statusFrame(position: bigint, replyRequested: boolean): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_BYTES);
  frame[0] = 0x64;
  frame.writeInt32BE(FRAME_BYTES - 1, 1);
  frame[5] = 0x72;
  frame.writeBigUInt64BE(position, 6);
  frame.writeBigUInt64BE(position, 14);
  frame.writeBigUInt64BE(position, 22);
  frame.writeBigInt64BE((BigInt(Date.now()) - POSTGRES_EPOCH_MS) * 1000n, 30);
  frame[38] = replyRequested ? 1 : 0;
  return frame;
}
