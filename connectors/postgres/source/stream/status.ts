/**
 * What we tell the server, and when: how far it may forget, at most a second late; that we live, every ten seconds, and
 * every second while we don't read and so can't see that we are asked (wal_sender_timeout counts from our last word); and, when it is silent, whether it lives.
 */
import type { Duplex } from "node:stream";
import { sourceError } from "../errors.ts";

const TICK_MS = 1_000;
const REPORT_MS = 10_000;
/** Silence after which the server is asked for a reply, and the time it has to give one. */
const SILENCE_MS = 10_000;
const REPLY_MS = 20_000;
/** A tick this late means that we were stopped (SIGSTOP, a suspended machine): the server's silence was ours. */
const TICK_LATE_MS = 5_000;
const FRAME_BYTES = 1 + 4 + 34;
/** Milliseconds from 1970 to 2000. */
const POSTGRES_EPOCH_MS = 946_684_800_000n;

export interface StatusOptions {
  readonly socket: Duplex;
  /** True while we don't read on purpose: then silence says nothing. */
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

  /** Never moves back. The value goes out as it is: the next commit record may begin exactly there. */
  acknowledge(commit: bigint): void {
    if (commit > this.#acknowledged) this.#acknowledged = commit;
  }

  /** Bytes came in. */
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
      this.#options.onSilent(
        sourceError("MR2022", "retryable", `the server has been silent for ${seconds} s and did not answer when asked`),
      );
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

/** CopyData with a Standby status update: written, flushed and applied alike, as sinks know only durable. */
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
